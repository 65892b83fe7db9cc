//! What is fetched in front of the streams of a source, into the cache.
//!
//! ```text
//!   player ─ place, demand ─▶ Plan ───┐
//!   player ─ place, demand ─▶ Plan ───┤ next part         (of each stream one)
//!     ▲                               ▼
//!     │                             Driver ─ one thread ─▶ server
//!     │ plaintext, as it comes        │
//!     └────────── Transfer ◀──────────┴─▶ commit ─▶ cache
//! ```
//!
//! The rule: **the look-ahead decides nothing but the Variant Stream of what has not been read.** What fails ahead is left to the
//! stream: when the part's turn has come the stream asks for it again, and knows what to do about an error, another edition, or a
//! URL that has expired. By then the cause may be over.
//!
//! The driver runs while a stream is open, and goes on while no one reads: a decoder that is paused gets its minutes ahead all
//! the same. With the last stream it ends, and its connections close.

mod choosing;
mod driver;
mod fetching;
mod giving_up;
mod improving;
mod ladder;
mod place;
mod plan;
mod shared;
mod transfer;
mod window;

pub(super) use self::{
    place::LookAheadPlace,
    plan::{Choosing, Follow},
    shared::LookAhead,
    transfer::{Left, TransferReader},
    window::At,
};
