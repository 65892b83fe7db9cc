//! Orchestration of byte streams.
