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
    /// Those that any of these rules names: what several requests for one track ask for together.
    Each(Vec<Self>),
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
    /// Those with these NAMEs. Each Variant Stream has its own Rendition Group, in which a NAME is there once.
    Names(Vec<String>),
    /// Those that any of these rules names: what several requests for one track ask for together.
    Each(Vec<Self>),
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
            Self::Each(rules) => {
                let mut found: Vec<usize> = Vec::new();
                for rule in rules {
                    let fresh = rule.resolve(rates, preferred)?;
                    found.extend(
                        fresh
                            .iter()
                            .filter(|index| !found.contains(index))
                            .collect::<Vec<_>>(),
                    );
                }
                Some(found)
            }
        }
    }

    /// The numbers that do not exist, of Variant Streams that there are `count` of.
    #[cfg(feature = "hls")]
    pub(super) fn beyond(&self, count: usize) -> Option<usize> {
        match self {
            Self::These(indices) => indices.iter().copied().filter(|index| *index >= count).max(),
            Self::Each(rules) => rules.iter().filter_map(|rule| rule.beyond(count)).max(),
            _ => None,
        }
    }

    fn into_rules(self) -> Vec<Self> {
        match self {
            Self::Each(rules) => rules.into_iter().flat_map(Self::into_rules).collect(),
            rule => vec![rule],
        }
    }

    /// The union. What two rules mean is known with the playlist only: both are kept, each once.
    fn and(self, other: Self) -> Self {
        let mut rules = self.into_rules();
        for rule in other.into_rules() {
            let known = rules.iter_mut().find(|known| matches!(known, Self::These(_)));
            match (rule, known) {
                (Self::These(more), Some(Self::These(numbers))) => join(numbers, more),
                (rule, _) => rules.push(rule),
            }
        }
        if rules.contains(&Self::All) {
            return Self::All;
        }
        one_or(rules, Self::Each)
    }
}

impl Renditions {
    pub(super) fn into_rules(self) -> Vec<Self> {
        match self {
            Self::Each(rules) => rules.into_iter().flat_map(Self::into_rules).collect(),
            rule => vec![rule],
        }
    }

    /// The union. `All` takes none of the others in: one without a language, or of a NAME, need not be among them.
    pub(super) fn and(self, other: Self) -> Self {
        let mut rules = self.into_rules();
        for rule in other.into_rules() {
            let is_alike =
                |known: &&mut Self| std::mem::discriminant(&**known) == std::mem::discriminant(&rule);
            match (&rule, rules.iter_mut().find(is_alike)) {
                (Self::Languages(more), Some(Self::Languages(known)))
                | (Self::Names(more), Some(Self::Names(known))) => join(known, more.clone()),
                _ => rules.push(rule),
            }
        }
        one_or(rules, Self::Each)
    }
}

fn join<T: Ord>(known: &mut Vec<T>, more: Vec<T>) {
    known.extend(more);
    known.sort_unstable();
    known.dedup();
}

/// Rules each once; one by itself.
fn one_or<T: PartialEq>(rules: Vec<T>, several: impl FnOnce(Vec<T>) -> T) -> T {
    let mut each: Vec<T> = Vec::new();
    for rule in rules {
        if !each.contains(&rule) {
            each.push(rule);
        }
    }
    match each.pop() {
        Some(rule) if each.is_empty() => rule,
        Some(rule) => {
            each.push(rule);
            several(each)
        }
        None => several(each),
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
        let all = of(Variants::All, None);
        assert_eq!(of(Variants::Lowest, None).and(all.clone()), all);
        let one = Renditions::Languages(vec!["en".into()]);
        let two = Renditions::Languages(vec!["de".into(), "en".into()]);
        assert_eq!(one.clone().and(two.clone()), two);
        let both = Renditions::Default.and(one.clone());
        assert_eq!(both, Renditions::Each(vec![Renditions::Default, one]));
        let more = both.clone().and(two.clone());
        assert_eq!(more, Renditions::Each(vec![Renditions::Default, two]));
        assert_eq!(more.clone().and(both), more, "asked for again");
        let named = Renditions::Names(vec!["commentary".into()]);
        assert_eq!(named.clone().and(named.clone()), named);
    }

    /// O5: two limits lead to two Variant Streams, and a union of rules names what each of them does.
    #[cfg(feature = "hls")]
    #[test]
    fn o5_a_merged_rule_names_what_each_of_both_does() {
        let (rates, preferred) = ([80, 50, 120, 500], [0, 1, 2]);
        let both = |one: Variants, other: Variants| one.and(other).resolve(&rates, &preferred);
        let (low, high) = (Variants::AtMost(60), Variants::AtMost(100));
        assert_eq!(both(low.clone(), high.clone()), Some(vec![1, 0]));
        assert_eq!(low.clone().and(low.clone()), low);
        assert_eq!(
            both(low.clone().and(high), low),
            Some(vec![1, 0]),
            "asked for again"
        );
        assert_eq!(both(Variants::First, Variants::Highest), Some(vec![0, 2]));
        let these = Variants::These(vec![3]).and(Variants::Lowest);
        let these = these.and(Variants::These(vec![1]));
        assert_eq!(these.resolve(&rates, &preferred), Some(vec![1, 3]));
        let beyond = Variants::First.and(Variants::These(vec![3, 7]));
        assert_eq!(
            (beyond.resolve(&rates, &preferred), beyond.beyond(4)),
            (None, Some(7))
        );
    }
}
