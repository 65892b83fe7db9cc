//! Whom to tell that stored bytes are no longer what was written.

use std::fmt;
use std::sync::Arc;

/// What the owner of a file wants to run when somebody who reads it finds damage: on that thread, under no lock. He looks
/// for himself; it may be sounded more than once, and for nothing.
#[derive(Clone, Default)]
pub(crate) struct DamageCallback(Option<Arc<dyn Fn() + Send + Sync>>);

impl DamageCallback {
    #[cfg_attr(
        not(feature = "cache"),
        expect(dead_code, reason = "the cache takes away what is damaged")
    )]
    pub(crate) fn new(callback: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(callback)))
    }

    pub(crate) fn call(&self) {
        if let Some(callback) = &self.0 {
            callback();
        }
    }
}

impl fmt::Debug for DamageCallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DamageCallback").finish_non_exhaustive()
    }
}
