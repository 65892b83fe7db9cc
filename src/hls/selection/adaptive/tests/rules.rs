use super::super::super::{
    Adaptive, HeldSegment, NetworkMemory, NetworkSample, SegmentTransfer, Situation, VariantSelector,
};
use super::*;

/// Behind so many seconds of a steady network.
fn behind(length: f64, bits_per_second: u64) -> Adaptive {
    let mut selector = Adaptive::new();
    hear(&mut selector, 0.0, length, bits_per_second);
    selector
}

fn at(now: f64, ladder: &[Rung], current: usize, buffered: f64) -> Situation<'_> {
    Situation::new(seconds(now), ladder)
        .current(Some(current))
        .buffered(seconds(buffered))
        .look_ahead(seconds(60.0))
        .remaining(Some(seconds(300.0)))
}

#[test]
fn it_starts_low_or_with_half_of_what_is_remembered() {
    let ladder = ladder();
    let start = Situation::new(Duration::ZERO, &ladder);
    assert_eq!(Adaptive::new().next(&start), 1);
    let remembers = |rate| Adaptive::new().network(NetworkMemory::new(rate)).next(&start);
    assert_eq!(remembers(10_000_000), 6);
    assert_eq!(remembers(200_000), 2);
    assert_eq!(remembers(1), 0);
}

#[test]
fn it_climbs_with_the_rate_and_goes_on_through_a_dip_from_depth() {
    let ladder = ladder();
    let mut selector = behind(20.0, 2_000_000);
    assert_eq!(selector.next(&at(20.0, &ladder, 3, 54.0)), 6);
    hear(&mut selector, 20.0, 4.0, 250_000);
    assert_eq!(selector.next(&at(24.0, &ladder, 6, 50.0)), 6);
    assert!(selector.next(&at(24.0, &ladder, 6, 4.0)) < 6);
}

#[test]
fn a_second_step_up_waits_and_a_step_down_does_not() {
    let ladder = ladder();
    let mut selector = behind(20.0, 400_000);
    let low = selector.next(&at(20.0, &ladder, 0, 12.0));
    assert!(low > 0 && low < 6, "{low}");
    hear(&mut selector, 20.0, 0.5, 40_000_000);
    assert_eq!(selector.next(&at(20.5, &ladder, low, 54.0)), low);
    assert_eq!(selector.next(&at(40.0, &ladder, low, 54.0)), 6);
    hear(&mut selector, 40.0, 20.0, 50_000);
    assert!(selector.next(&at(60.0, &ladder, 6, 4.0)) < 2);
}

#[test]
fn an_outage_does_not_count_as_the_networks_rate() {
    let ladder = ladder();
    let mut selector = behind(20.0, 2_000_000);
    hear(&mut selector, 20.0, 20.0, 0);
    hear(&mut selector, 40.0, 0.5, 2_000_000);
    assert_eq!(selector.next(&at(40.5, &ladder, 6, 40.0)), 6);
    // One that does not end is the network.
    hear(&mut selector, 41.0, 120.0, 1_000);
    assert_eq!(selector.next(&at(161.0, &ladder, 6, 4.0)), 0);
}

#[test]
fn a_segment_that_comes_too_late_is_given_up_for_one_that_does_not() {
    let ladder = ladder();
    let mut selector = behind(20.0, 2_000_000);
    hear(&mut selector, 20.0, 5.0, 100_000);
    let top = SegmentTransfer::new(6, seconds(6.0))
        .received(62_500)
        .size(Some(240_000))
        .elapsed(seconds(5.0));
    // 14 seconds are to come, and 6 of sound.
    let late = selector.clone().give_up(&at(25.0, &ladder, 6, 2.0), &top);
    assert!(late.is_some_and(|rung| rung < 5), "{late:?}");
    assert_eq!(selector.give_up(&at(25.0, &ladder, 6, 40.0), &top), None);
    let low = SegmentTransfer::new(0, seconds(6.0))
        .received(100)
        .size(Some(24_000));
    assert_eq!(selector.give_up(&at(25.0, &ladder, 6, 0.5), &low), None);
}

#[test]
fn held_segments_are_improved_in_order_where_they_arrive_in_time() {
    let ladder = ladder();
    let mut selector = behind(20.0, 2_000_000);
    let held = [
        HeldSegment::new(0, seconds(6.0), seconds(0.2)),
        HeldSegment::new(6, seconds(6.0), seconds(6.2)),
        HeldSegment::new(0, seconds(6.0), seconds(12.2)),
        HeldSegment::new(0, seconds(6.0), seconds(18.2)),
    ];
    let full = at(20.0, &ladder, 6, 54.0);
    let first = selector.improve(&full, &held);
    assert!(
        first.is_some_and(|first| first.segment == 2 && first.rung == 6),
        "{first:?}"
    );
    assert_eq!(selector.improve(&at(20.0, &ladder, 6, 10.0), &held), None);
}

#[test]
fn improving_has_a_budget() {
    let ladder = ladder();
    let mut selector = behind(20.0, 2_000_000);
    let held = [HeldSegment::new(3, seconds(6.0), seconds(30.0))];
    let full = at(20.0, &ladder, 6, 54.0);
    let improved = (0..1_000)
        .take_while(|_| selector.improve(&full, &held).is_some())
        .count();
    // 6 % of 5 MB that came and 12 MB to come, in segments of 96 kB.
    assert!((1..=11).contains(&improved), "{improved}");
}

#[test]
fn no_segment_is_improved_into_another_codec() {
    let ladder = with_flac();
    let mut selector = behind(20.0, 20_000_000);
    let held = [HeldSegment::new(6, seconds(6.0), seconds(30.0))];
    assert_eq!(selector.improve(&at(20.0, &ladder, 7, 54.0), &held), None);
}

#[test]
fn a_better_cached_segment_is_taken_and_tells_nothing_of_the_network() {
    let mut ladder = ladder();
    ladder[6].cached = seconds(6.0);
    let mut selector = behind(20.0, 150_000);
    let network = VariantSelector::network(&selector);
    assert_eq!(selector.next(&at(20.0, &ladder, 1, 20.0)), 6);
    assert_eq!(VariantSelector::network(&selector), network);
    // A worse one is not, unless nothing better arrives in time.
    ladder[6].cached = Duration::ZERO;
    ladder[0].cached = seconds(6.0);
    let mut fast = behind(20.0, 2_000_000);
    assert_eq!(fast.next(&at(20.0, &ladder, 6, 54.0)), 6);
}

#[test]
fn lossless_needs_a_rate_beyond_its_own() {
    let ladder = with_flac();
    let mut fast = behind(30.0, 20_000_000);
    assert_eq!(fast.next(&at(30.0, &ladder, 6, 54.0)), 7);
    let mut near = behind(30.0, 900_000);
    assert_eq!(near.next(&at(30.0, &ladder, 6, 30.0)), 6);
    // Or a full look-ahead.
    assert_eq!(near.next(&at(60.0, &ladder, 6, 54.0)), 7);
}

#[test]
fn the_codec_stays_for_a_minute() {
    let ladder = with_flac();
    let mut selector = behind(30.0, 20_000_000);
    assert_eq!(selector.next(&at(30.0, &ladder, 6, 20.0)), 7);
    hear(&mut selector, 30.0, 30.0, 60_000);
    assert_eq!(selector.next(&at(60.0, &ladder, 7, 3.0)), 7);
    let flac = SegmentTransfer::new(7, seconds(6.0)).size(Some(750_000));
    assert_eq!(selector.give_up(&at(61.0, &ladder, 7, 3.0), &flac), None);
    hear(&mut selector, 60.0, 31.0, 60_000);
    assert!(selector.next(&at(91.0, &ladder, 7, 3.0)) < 7);
}

#[test]
fn transfers_side_by_side_are_one_network() {
    let mut one = Adaptive::new();
    hear(&mut one, 0.0, 10.0, 2_000_000);
    let mut two = Adaptive::new();
    for quarter in 1..=40 {
        let sample = NetworkSample::new(seconds(f64::from(quarter) * 0.25), 2_000_000 / 64, seconds(0.25));
        two.observe(&sample);
        two.observe(&sample);
    }
    let rate = |selector: &Adaptive| VariantSelector::network(selector).unwrap().bit_rate;
    assert!(
        rate(&one).abs_diff(rate(&two)) < 50_000,
        "{} {}",
        rate(&one),
        rate(&two)
    );
}

#[test]
fn the_way_there_and_back_is_not_the_networks_rate() {
    let ladder = ladder();
    let mut selector = Adaptive::new();
    // 24 kB in 0.1 s behind 0.9 s of latency, again and again: 1.9 Mbit/s while bytes come.
    for second in 1..=20 {
        let sample = NetworkSample::new(seconds(f64::from(second)), 24_000, seconds(1.0));
        selector.observe(&sample.waited(seconds(0.9)).last(true));
    }
    assert_eq!(selector.next(&at(20.0, &ladder, 3, 54.0)), 6);
    assert!(VariantSelector::network(&selector).unwrap().bit_rate > 1_000_000);
}
