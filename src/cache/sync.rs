//! The locks of the accounts, the evictor and the trash queue. The models in `tests/interleavings` have loom's in their place.

pub(super) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
pub(super) use std::sync::{Condvar, Mutex, MutexGuard};
