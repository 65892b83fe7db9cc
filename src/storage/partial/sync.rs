//! The locks under `presence` and `memory`. The models in `tests/interleavings` have loom's in their place.

pub(super) use std::sync::atomic::{AtomicBool, Ordering};
pub(super) use std::sync::{Mutex, MutexGuard};
