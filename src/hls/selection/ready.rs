//! Selectors that do not look at the network.

use super::{
    selector::VariantSelector,
    situation::{Rung, Situation},
};

/// Always the Variant Stream at this place of the ladder, if the app's limit allows it; else the highest that it allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fixed(pub usize);

/// Always the highest BANDWIDTH that the app's limit allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Highest;

/// Always the lowest BANDWIDTH.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lowest;

/// Always the highest BANDWIDTH of at most so many bits per second. The lowest, if none is so low.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AtMost(pub u64);

impl VariantSelector for Fixed {
    fn next(&mut self, situation: &Situation<'_>) -> usize {
        if situation.is_allowed(self.0) {
            self.0
        } else {
            Highest.next(situation)
        }
    }
}

impl VariantSelector for Highest {
    fn next(&mut self, situation: &Situation<'_>) -> usize {
        highest(situation.allowed())
    }
}

impl VariantSelector for Lowest {
    fn next(&mut self, situation: &Situation<'_>) -> usize {
        let lowest = situation.allowed().min_by_key(|(_, rung)| rung.bandwidth);
        lowest.map_or(0, |(place, _)| place)
    }
}

impl VariantSelector for AtMost {
    fn next(&mut self, situation: &Situation<'_>) -> usize {
        let limit = situation.max_bit_rate.map_or(self.0, |limit| limit.min(self.0));
        highest(situation.max_bit_rate(Some(limit)).allowed())
    }
}

/// The first one of the highest BANDWIDTH: of redundant Variant Streams the first is the author's choice.
fn highest<'a>(rungs: impl Iterator<Item = (usize, &'a Rung)>) -> usize {
    let mut best: Option<(usize, u64)> = None;
    for (place, rung) in rungs {
        if best.is_none_or(|(_, bandwidth)| rung.bandwidth > bandwidth) {
            best = Some((place, rung.bandwidth));
        }
    }
    best.map_or(0, |(place, _)| place)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ladder() -> Vec<Rung> {
        [128_000, 320_000, 64_000, 320_000].map(Rung::new).to_vec()
    }

    #[test]
    fn each_takes_its_place_and_the_first_of_equals() {
        let ladder = ladder();
        let situation = Situation::new(Duration::ZERO, &ladder);
        assert_eq!(Highest.next(&situation), 1);
        assert_eq!(Lowest.next(&situation), 2);
        assert_eq!(Fixed(3).next(&situation), 3);
        assert_eq!(AtMost(200_000).next(&situation), 0);
        assert_eq!(AtMost(1_000).next(&situation), 2);
    }

    #[test]
    fn the_apps_limit_holds_for_all() {
        let ladder = ladder();
        let situation = Situation::new(Duration::ZERO, &ladder).max_bit_rate(Some(130_000));
        assert_eq!(Highest.next(&situation), 0);
        assert_eq!(Fixed(1).next(&situation), 0);
        assert_eq!(AtMost(400_000).next(&situation), 0);
        let none = situation.max_bit_rate(Some(1));
        assert_eq!(Highest.next(&none), 2);
        assert_eq!(Fixed(0).next(&none), 2);
    }

    #[test]
    fn an_empty_ladder_and_a_place_beyond_it_are_answered() {
        let empty = Situation::new(Duration::ZERO, &[]);
        assert_eq!(Highest.next(&empty), 0);
        assert_eq!(Lowest.next(&empty), 0);
        let ladder = ladder();
        assert_eq!(Fixed(9).next(&Situation::new(Duration::ZERO, &ladder)), 1);
    }
}
