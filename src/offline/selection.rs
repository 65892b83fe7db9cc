//! What of a track is downloaded.

use std::{ops::Range, time::Duration};

/// Which Variant Streams of an HLS track are downloaded.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Variants {
    /// The one that plays where the app chooses none: the playlist's first, audio alone before video.
    #[default]
    First,
    /// The one with the highest BANDWIDTH.
    Highest,
    /// The one with the lowest BANDWIDTH.
    Lowest,
    /// The best one of at most so many bits a second, or else the lowest.
    AtMost(u64),
    /// All of them.
    All,
    /// Those with these numbers, from 0.
    These(Vec<usize>),
}

/// Which audio Renditions of an HLS track are downloaded, where they have Media Playlists of their own.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Renditions {
    /// The one that plays where the app asks for no language.
    #[default]
    Default,
    /// One for each LANGUAGE.
    All,
    /// One for each of these languages (RFC 5646).
    Languages(Vec<String>),
}

/// What of a track is downloaded. The default is the Variant Stream that plays where the app chooses none, whole. Of a file all
/// of it is downloaded, whatever this says.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// Its Variant Streams.
    pub variants: Variants,
    /// Its Renditions.
    pub renditions: Renditions,
    /// The span of its time line. `None` for all of it.
    pub window: Option<Range<Duration>>,
}

impl Selection {
    /// With these Variant Streams.
    #[must_use]
    pub fn variants(self, variants: Variants) -> Self {
        Self { variants, ..self }
    }

    /// With these Renditions.
    #[must_use]
    pub fn renditions(self, renditions: Renditions) -> Self {
        Self { renditions, ..self }
    }

    /// Of this span of the time line alone: the segments that play in it, whole.
    #[must_use]
    pub fn window(self, window: Range<Duration>) -> Self {
        Self {
            window: Some(window),
            ..self
        }
    }

    /// What both select: the union. Of two spans of time it is the span that holds both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let window = match (self.window, other.window) {
            (Some(one), Some(other)) => Some(one.start.min(other.start)..one.end.max(other.end)),
            _ => None,
        };
        Self {
            variants: self.variants.and(other.variants),
            renditions: self.renditions.and(other.renditions),
            window,
        }
    }
}

impl Variants {
    /// The numbers that are meant, of Variant Streams with these bits a second; those at the front of `preferred` come first
    /// where the choice is open. `None` for a number that does not exist.
    #[cfg(feature = "hls")]
    pub(super) fn resolve(&self, rates: &[u64], preferred: &[usize]) -> Option<Vec<usize>> {
        let rate = |index: &usize| rates.get(*index).copied().unwrap_or_default();
        let one = |found: Option<usize>| Some(found.into_iter().collect());
        let lowest = || preferred.iter().copied().min_by_key(rate);
        match self {
            Self::First => one(preferred.first().copied()),
            // Of equals the author's first, as a stream chooses.
            Self::Highest => one(preferred.iter().rev().copied().max_by_key(rate)),
            Self::Lowest => one(lowest()),
            Self::AtMost(limit) => {
                let fits = preferred
                    .iter()
                    .rev()
                    .copied()
                    .filter(|index| rate(index) <= *limit);
                one(fits.max_by_key(rate).or_else(lowest))
            }
            Self::All => Some((0..rates.len()).collect()),
            Self::These(indices) => indices
                .iter()
                .all(|index| *index < rates.len())
                .then(|| indices.clone()),
        }
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (one, other) if one == other => one,
            (Self::These(mut one), Self::These(other)) => {
                one.extend(other);
                one.sort_unstable();
                one.dedup();
                Self::These(one)
            }
            (Self::AtMost(one), Self::AtMost(other)) => Self::AtMost(one.max(other)),
            // What two rules mean is known with the playlist only. All of them hold what both name.
            _ => Self::All,
        }
    }
}

impl Renditions {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Languages(mut one), Self::Languages(other)) => {
                one.extend(other);
                one.sort_unstable();
                one.dedup();
                Self::Languages(one)
            }
            (one, other) if one == other => one,
            _ => Self::All,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "hls")]
    #[test]
    fn rules_name_variant_streams_by_their_numbers() {
        let (rates, preferred) = ([80, 50, 120, 500], [0, 1, 2]);
        let found = |variants: Variants| variants.resolve(&rates, &preferred);
        assert_eq!(found(Variants::First), Some(vec![0]));
        assert_eq!(found(Variants::Highest), Some(vec![2]));
        assert_eq!(found(Variants::Lowest), Some(vec![1]));
        assert_eq!(found(Variants::AtMost(100)), Some(vec![0]));
        assert_eq!(found(Variants::AtMost(10)), Some(vec![1]));
        assert_eq!(found(Variants::All), Some(vec![0, 1, 2, 3]));
        assert_eq!(found(Variants::These(vec![3])), Some(vec![3]));
        assert_eq!(found(Variants::These(vec![4])), None);
    }

    /// O5.
    #[test]
    fn o5_a_merged_selection_holds_both() {
        let of = |variants, window: Option<Range<u64>>| Selection {
            variants,
            window: window.map(|span| Duration::from_secs(span.start)..Duration::from_secs(span.end)),
            ..Selection::default()
        };
        let both = of(Variants::These(vec![2]), Some(0..5)).and(of(Variants::These(vec![1, 2]), Some(9..12)));
        assert_eq!(both, of(Variants::These(vec![1, 2]), Some(0..12)));
        assert_eq!(
            of(Variants::First, None).and(of(Variants::First, Some(1..2))),
            of(Variants::First, None)
        );
        assert_eq!(
            of(Variants::First, None).and(of(Variants::Lowest, None)).variants,
            Variants::All
        );
        let one = Renditions::Languages(vec!["en".into()]);
        let two = Renditions::Languages(vec!["de".into(), "en".into()]);
        assert_eq!(one.clone().and(two.clone()), two);
        assert_eq!(one.and(Renditions::Default), Renditions::All);
    }
}
