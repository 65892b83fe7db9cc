//! A tree-shaped cache of assets under one byte limit.
