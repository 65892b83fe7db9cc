//! One file each, crash-safe.
