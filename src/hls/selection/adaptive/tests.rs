use std::time::Duration;

use super::*;

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn ladder() -> Vec<Rung> {
    [32_000, 64_000, 96_000, 128_000, 192_000, 256_000, 320_000]
        .map(Rung::new)
        .to_vec()
}

/// One second of a network of so many bits per second, in pieces of a quarter.
fn second(selector: &mut Adaptive, from: f64, bits_per_second: u64) {
    for quarter in 1..=4 {
        let at = seconds(from + f64::from(quarter) * 0.25);
        selector.observe(&NetworkSample::new(at, bits_per_second / 32, seconds(0.25)));
    }
}

#[test]
fn it_starts_with_128_kbit_or_half_of_what_is_remembered() {
    let ladder = ladder();
    let start = Situation::new(Duration::ZERO, &ladder);
    assert_eq!(Adaptive::new().next(&start), 3);
    let remembers = |rate| Adaptive::new().network(NetworkMemory::new(rate)).next(&start);
    assert_eq!(remembers(10_000_000), 6);
    assert_eq!(remembers(200_000), 2);
    assert_eq!(remembers(1), 0);
}

#[test]
fn it_climbs_with_the_rate_and_goes_on_through_a_dip_from_depth() {
    let ladder = ladder();
    let mut selector = Adaptive::new();
    for from in 0..20 {
        second(&mut selector, f64::from(from), 2_000_000);
    }
    let deep = Situation::new(seconds(20.0), &ladder)
        .current(Some(3))
        .buffered(seconds(55.0))
        .look_ahead(seconds(60.0));
    assert_eq!(selector.next(&deep), 6);
    for from in 20..23 {
        second(&mut selector, f64::from(from), 250_000);
    }
    let dip = Situation {
        now: seconds(23.0),
        current: Some(6),
        ..deep
    };
    assert_eq!(selector.next(&dip), 6);
    let shallow = dip.buffered(seconds(5.0));
    assert!(selector.next(&shallow) < 6);
}
