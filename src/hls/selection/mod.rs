//! Which Variant Stream the next segment is taken from: a decision that needs neither a clock nor the network.
//!
//! The one rule this module adds: **a selector is a function of what it was told.** The player tells it of bytes that come
//! ([`NetworkSample`]) and asks it where something is to be decided ([`Situation`]). The same calls get the same answers, so
//! that a rule can be tried on a written network, and compared with others.
//!
//! ```text
//!   bytes come ─ observe ─▶                      ┌─ next      the next segment's Variant Stream
//!                             VariantSelector ───┼─ give_up   of the segment under way: go on, or another one
//!   a segment is due ─ ask ─▶                    └─ improve   of what is held: a segment again, better
//! ```
//!
//! [`Adaptive`] is the one for networks that change. [`Fixed`], [`Highest`], [`Lowest`] and [`AtMost`] do not look at the
//! network.

mod adaptive;
mod ready;
mod sample;
mod selector;
mod situation;

pub use adaptive::Adaptive;
pub use ready::{AtMost, Fixed, Highest, Lowest};
pub use sample::{NetworkMemory, NetworkSample};
pub use selector::VariantSelector;
pub use situation::{HeldSegment, Improvement, Rung, SegmentTransfer, Situation};
