//! Those who read what another source fetches, and what they are told of it.

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_channel::{Sender, WeakSender};

use super::{Bypass, FileControl};

/// All who joined one fetcher.
#[derive(Default)]
pub(super) struct Company(Mutex<Members>);

#[derive(Default)]
struct Members {
    bypass: Option<Bypass>,
    /// Weak: a channel ends with the source it is of.
    joined: Vec<WeakSender<FileControl>>,
}

impl Company {
    /// Tells `sender` from now on, and at once if the file is not kept already.
    pub(super) fn join(&self, sender: &Sender<FileControl>) {
        let mut members = self.lock();
        // To let go of the last one of a channel wakes whoever listens, which is foreign code.
        let there: Vec<_> = members.joined.iter().filter_map(WeakSender::upgrade).collect();
        members.joined = there.iter().chain([sender]).map(Sender::downgrade).collect();
        let bypass = members.bypass.clone();
        drop(members);
        drop(there);
        if let Some(reason) = bypass {
            // Whoever does not listen is not told.
            let _ = sender.try_send(FileControl::CacheBypassed { reason });
        }
    }

    /// What is fetched from here on is not kept.
    pub(super) fn bypass(&self, reason: &Bypass) {
        let mut members = self.lock();
        members.bypass = Some(reason.clone());
        // To send wakes whoever listens, which is foreign code.
        let joined = mem::take(&mut members.joined);
        drop(members);
        for sender in joined.iter().filter_map(WeakSender::upgrade) {
            let reason = reason.clone();
            let _ = sender.try_send(FileControl::CacheBypassed { reason });
        }
    }

    /// Another fetcher goes on, and tries the cache again.
    pub(super) fn start_over(&self) {
        let before = mem::take(&mut *self.lock());
        drop(before);
    }

    fn lock(&self) -> MutexGuard<'_, Members> {
        // Each change is one assignment, which a panic elsewhere does not break.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_gone_is_forgotten_when_the_next_one_joins() {
        let company = Company::default();
        let (stays, told) = async_channel::unbounded();
        company.join(&stays);
        for _ in 0..1000 {
            company.join(&async_channel::unbounded().0);
        }
        assert!(company.lock().joined.len() <= 2);
        company.bypass(&Bypass::UnknownLength);
        let told = told.try_recv();
        assert!(matches!(told, Ok(FileControl::CacheBypassed { .. })));
    }
}
