//! Telling the owner of a file that its stored bytes are damaged.

use std::fmt;
use std::sync::Arc;

/// Called on the reading thread, with no lock held, when stored bytes are not what was written.
///
/// It may be called repeatedly, and for bytes that are replaced already. The owner verifies.
#[derive(Clone, Default)]
pub(crate) struct DamageCallback(Option<Arc<dyn Fn() + Send + Sync>>);

impl DamageCallback {
    #[cfg_attr(
        not(feature = "cache"),
        expect(dead_code, reason = "the cache removes damaged entries")
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
