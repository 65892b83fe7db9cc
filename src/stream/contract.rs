//! The contract of [`Source`], as checks that any source can be put through. Needs the feature `test-util`.
//!
//! The suite checks the bytes and their order, the end, seeks (forwards, backwards, to the end, past it, by time),
//! reopening, refused seeks, errors, dropping at any point, and the offline flag. It checks the source itself, and the
//! source in a [`Stream`](super::Stream) that is spawned, inline and handed out.
//!
//! ```
#![doc = include_str!("doctest_track.txt")]
//! use kithara::stream::contract::Contract;
//!
//! let contract = Contract::new(Track::default, "do re mi");
//! future::block_on(contract.check()).unwrap();
//! ```

mod checks;
mod ways;

use std::fmt;

use bytes::Bytes;

use super::{Source, StreamParams};
pub use crate::violation::Violation;

type Make<S> = Box<dyn Fn() -> S + Send + Sync>;

/// What a source should do, and how to make one. See the [module](self) for an example.
///
/// What breaks is told with its rule:
///
/// ```
#[doc = include_str!("doctest_track.txt")]
/// use kithara::stream::contract::Contract;
///
/// let contract = Contract::new(Track::default, "something else");
/// let violation = future::block_on(contract.check()).unwrap_err();
/// assert_eq!(violation.rule(), "plays to its end");
/// let detail = "from 0: 8 bytes where 14 are due, different from 0 on";
/// assert_eq!(violation.detail(), detail);
/// ```
pub struct Contract<S: Source> {
    make: Make<S>,
    bytes: Bytes,
    params: StreamParams,
    failing: Option<Make<S>>,
    offline: Option<(Make<S>, Offline)>,
    connections: Option<Box<dyn Fn() -> usize + Send + Sync>>,
}

/// What a source does in offline mode.
///
/// ```
#[doc = include_str!("doctest_track.txt")]
/// use kithara::stream::contract::{Contract, Offline};
///
/// // This one needs no network, so it does not fail without.
/// let contract = Contract::new(Track::default, "do re mi")
///     .offline(Track::default, Offline::Fails);
/// assert_eq!(future::block_on(contract.check()).unwrap_err().rule(), "keeps offline");
/// ```
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offline {
    /// Everything is there: it plays to the end.
    Plays,
    /// Something is missing: it fails, with bytes up to there or none.
    Fails,
}

impl<S: Source> Contract<S> {
    /// A contract for the sources that `make` makes: they yield `bytes`.
    ///
    /// ```
    #[doc = include_str!("doctest_track.txt")]
    /// use kithara::stream::contract::Contract;
    ///
    /// let contract = Contract::new(Track::default, "do re mi");
    /// assert!(future::block_on(contract.check()).is_ok());
    /// ```
    pub fn new(make: impl Fn() -> S + Send + Sync + 'static, bytes: impl Into<Bytes>) -> Self {
        Self {
            make: Box::new(make),
            bytes: bytes.into(),
            params: StreamParams::default(),
            failing: None,
            offline: None,
            connections: None,
        }
    }

    /// The parameters to open with. The offline flag has checks of its own.
    ///
    /// ```
    #[doc = include_str!("doctest_track.txt")]
    /// use std::num::NonZeroU16;
    /// use kithara::stream::contract::Contract;
    ///
    /// let one = StreamParams::default().max_chunks(NonZeroU16::MIN);
    /// let contract = Contract::new(Track::default, "do re mi").params(one);
    /// assert!(future::block_on(contract.check()).is_ok());
    /// ```
    #[must_use]
    pub fn params(self, params: StreamParams) -> Self {
        Self { params, ..self }
    }

    /// Adds a source that fails on its way, to be put through the checks of errors.
    ///
    /// ```
    #[doc = include_str!("doctest_track.txt")]
    /// use kithara::stream::contract::Contract;
    ///
    /// // This one never fails, which is not what was promised.
    /// let contract = Contract::new(Track::default, "do re mi").failing(Track::default);
    /// let violation = future::block_on(contract.check()).unwrap_err();
    /// assert_eq!(violation.rule(), "fails after the right bytes");
    /// ```
    #[must_use]
    pub fn failing(self, make: impl Fn() -> S + Send + Sync + 'static) -> Self {
        Self {
            failing: Some(Box::new(make)),
            ..self
        }
    }

    /// Adds a source to be opened in offline mode, and what it then does.
    ///
    /// ```
    #[doc = include_str!("doctest_track.txt")]
    /// use kithara::stream::contract::{Contract, Offline};
    ///
    /// let contract = Contract::new(Track::default, "do re mi")
    ///     .offline(Track::default, Offline::Plays);
    /// assert!(future::block_on(contract.check()).is_ok());
    /// ```
    #[must_use]
    pub fn offline(self, make: impl Fn() -> S + Send + Sync + 'static, does: Offline) -> Self {
        Self {
            offline: Some((Box::new(make), does)),
            ..self
        }
    }

    /// Tells how many connections were ever attempted. Offline mode must not add to them.
    ///
    /// ```
    #[doc = include_str!("doctest_track.txt")]
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    /// use kithara::stream::contract::{Contract, Offline};
    ///
    /// static DIALLED: AtomicUsize = AtomicUsize::new(0);
    /// let contract = Contract::new(Track::default, "do re mi")
    ///     .offline(Track::default, Offline::Plays)
    ///     .connections(|| DIALLED.load(Ordering::SeqCst));
    /// assert!(future::block_on(contract.check()).is_ok());
    /// ```
    #[must_use]
    pub fn connections(self, count: impl Fn() -> usize + Send + Sync + 'static) -> Self {
        Self {
            connections: Some(Box::new(count)),
            ..self
        }
    }

    /// Runs every check, on any executor.
    ///
    /// # Errors
    ///
    /// The first rule found broken.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the check under way. A source that never yields makes this wait for ever, so put a time
    /// limit around it.
    ///
    /// ```
    #[doc = include_str!("doctest_track.txt")]
    /// use kithara::stream::contract::Contract;
    ///
    /// let contract = Contract::new(Track::default, "do re mi");
    /// assert!(future::block_on(contract.check()).is_ok());
    /// ```
    pub async fn check(&self) -> Result<(), Violation> {
        self.plays_to_its_end().await?;
        self.reopens_where_it_was().await?;
        self.can_be_dropped_anywhere().await?;
        if (self.make)().supports_seek() {
            self.seeks().await?;
            self.ends_behind_its_end().await?;
            self.seeks_while_it_plays().await?;
        } else {
            self.refuses_what_it_cannot().await?;
        }
        self.seeks_by_time().await?;
        self.fails_once().await?;
        self.keeps_offline().await
    }
}

impl<S: Source> fmt::Debug for Contract<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contract")
            .field("bytes", &self.bytes.len())
            .field("params", &self.params)
            .finish_non_exhaustive()
    }
}
