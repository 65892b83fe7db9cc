//! From one channel layout to another, by ITU-R BS.775.
//!
//! ```text
//!            FL   FR   FC   BL   BR        each target channel is the sum of its row
//!   left  [  1    0   .71  .71   0  ]      LFE is left out
//!   right [  0    1   .71   0   .71 ]
//! ```

use std::f32::consts::FRAC_1_SQRT_2;

use super::ChannelLayout;

const FRONT_LEFT: u32 = 1 << 0;
const FRONT_RIGHT: u32 = 1 << 1;
const FRONT_CENTRE: u32 = 1 << 2;
const BACK_LEFT: u32 = 1 << 4;
const BACK_RIGHT: u32 = 1 << 5;
const FRONT_LEFT_OF_CENTRE: u32 = 1 << 6;
const FRONT_RIGHT_OF_CENTRE: u32 = 1 << 7;
const BACK_CENTRE: u32 = 1 << 8;
const SIDE_LEFT: u32 = 1 << 9;
const SIDE_RIGHT: u32 = 1 << 10;

/// Mixes frames of one layout into frames of another.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mixer {
    from: usize,
    to: usize,
    /// One row of `from` factors for each target channel.
    rows: Vec<f32>,
}

impl Mixer {
    /// `None` where nothing is to be done: the channels are the same, or only their places differ.
    pub(super) fn new(from: ChannelLayout, to: ChannelLayout) -> Option<Self> {
        // Channels without places are taken to be where the output has its own: silence instead would help nobody.
        if from == to || (from.count() == to.count() && (from.mask() == 0 || to.mask() == 0)) {
            return None;
        }
        let rows = if from.mask() == 0 || to.mask() == 0 {
            by_number(from.count(), to.count())
        } else {
            by_place(from.mask(), to.mask())
        };
        Some(Self {
            from: usize::from(from.count()),
            to: usize::from(to.count()),
            rows,
        })
    }

    /// Appends the frames of `samples`, mixed, to `out`. Both are interleaved.
    pub(super) fn mix(&self, samples: &[f32], out: &mut Vec<f32>) {
        if self.from == 0 || self.to == 0 {
            return;
        }
        out.reserve(samples.len() / self.from * self.to);
        // Sums may exceed full scale. They are not clipped here: an app that lowers the volume has them whole.
        for frame in samples.chunks_exact(self.from) {
            out.extend(self.rows.chunks_exact(self.from).map(|row| {
                row.iter()
                    .zip(frame)
                    .map(|(factor, sample)| factor * sample)
                    .sum::<f32>()
            }));
        }
    }
}

/// Without places the first channels are kept; one channel is heard on all, and all are heard on one.
fn by_number(from: u16, to: u16) -> Vec<f32> {
    let mut rows = Vec::new();
    for target in 0..to {
        rows.extend((0..from).map(|source| match (from, to) {
            (1, _) => 1.0,
            (_, 1) => 1.0 / f32::from(from),
            _ if source == target => 1.0,
            _ => 0.0,
        }));
    }
    rows
}

fn by_place(from: u32, to: u32) -> Vec<f32> {
    let sources: Vec<u32> = places(from).collect();
    let mut rows = Vec::new();
    for target in places(to) {
        rows.extend(sources.iter().map(|&source| {
            // A mono track is as loud on each loudspeaker as on one.
            if from == FRONT_CENTRE && to & FRONT_CENTRE == 0 && target & (FRONT_LEFT | FRONT_RIGHT) != 0 {
                return 1.0;
            }
            // A channel may be heard at two places, and two channels at one: factors add up.
            heard_at(source, to)
                .iter()
                .filter(|(place, _)| *place == target)
                .map(|(_, factor)| factor)
                .sum()
        }));
    }
    rows
}

fn places(mask: u32) -> impl Iterator<Item = u32> {
    (0..32).map(|bit| 1 << bit).filter(move |place| mask & place != 0)
}

/// Where a channel is heard among the channels `to`, and by what factor; nowhere if it is left out.
fn heard_at(source: u32, to: u32) -> Vec<(u32, f32)> {
    const HALF_POWER: f32 = FRAC_1_SQRT_2;
    let has = |places: u32| to & places == places;
    // What has a loudspeaker of its own is heard there alone.
    if has(source) {
        return vec![(source, 1.0)];
    }
    // The first row whose places are all there.
    let choices: &[&[(u32, f32)]] = match source {
        FRONT_LEFT | FRONT_RIGHT => &[&[(FRONT_CENTRE, HALF_POWER)]],
        FRONT_CENTRE => &[&[(FRONT_LEFT, HALF_POWER), (FRONT_RIGHT, HALF_POWER)]],
        FRONT_LEFT_OF_CENTRE => &[&[(FRONT_LEFT, 1.0)], &[(FRONT_CENTRE, HALF_POWER)]],
        FRONT_RIGHT_OF_CENTRE => &[&[(FRONT_RIGHT, 1.0)], &[(FRONT_CENTRE, HALF_POWER)]],
        BACK_LEFT => &[
            &[(SIDE_LEFT, 1.0)],
            &[(FRONT_LEFT, HALF_POWER)],
            &[(FRONT_CENTRE, 0.5)],
        ],
        BACK_RIGHT => &[
            &[(SIDE_RIGHT, 1.0)],
            &[(FRONT_RIGHT, HALF_POWER)],
            &[(FRONT_CENTRE, 0.5)],
        ],
        SIDE_LEFT => &[
            &[(BACK_LEFT, 1.0)],
            &[(FRONT_LEFT, HALF_POWER)],
            &[(FRONT_CENTRE, 0.5)],
        ],
        SIDE_RIGHT => &[
            &[(BACK_RIGHT, 1.0)],
            &[(FRONT_RIGHT, HALF_POWER)],
            &[(FRONT_CENTRE, 0.5)],
        ],
        BACK_CENTRE => &[
            &[(BACK_LEFT, HALF_POWER), (BACK_RIGHT, HALF_POWER)],
            &[(SIDE_LEFT, HALF_POWER), (SIDE_RIGHT, HALF_POWER)],
            &[(FRONT_LEFT, 0.5), (FRONT_RIGHT, 0.5)],
            &[(FRONT_CENTRE, 0.5)],
        ],
        // LFE: a loudspeaker that is not made for it is not given it.
        _ => &[],
    };
    choices
        .iter()
        .find(|row| row.iter().all(|(place, _)| has(*place)))
        .map(|row| row.to_vec())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::float_cmp, reason = "a test fails by panicking")]

    use super::*;

    const LFE: u32 = 1 << 3;

    fn mixed(from: ChannelLayout, to: ChannelLayout, frame: &[f32]) -> Vec<f32> {
        let mut out = Vec::new();
        Mixer::new(from, to).unwrap().mix(frame, &mut out);
        out
    }

    fn near(got: &[f32], want: &[f32]) {
        assert_eq!(got.len(), want.len());
        for (got, want) in got.iter().zip(want) {
            assert!((got - want).abs() < 1e-6, "{got} is not {want}");
        }
    }

    #[test]
    fn five_one_is_heard_on_two_loudspeakers_without_its_lfe() {
        let surround = ChannelLayout::from_count(6);
        // FL, FR, FC, LFE, BL, BR
        near(
            &mixed(surround, ChannelLayout::STEREO, &[0.1, 0.2, 0.3, 9.0, 0.5, 0.6]),
            &[
                0.1 + 0.3 * FRAC_1_SQRT_2 + 0.5 * FRAC_1_SQRT_2,
                0.2 + 0.3 * FRAC_1_SQRT_2 + 0.6 * FRAC_1_SQRT_2,
            ],
        );
    }

    #[test]
    fn a_mono_track_is_as_loud_on_two_loudspeakers() {
        near(
            &mixed(ChannelLayout::MONO, ChannelLayout::STEREO, &[0.25, -0.5]),
            &[0.25, 0.25, -0.5, -0.5],
        );
    }

    #[test]
    fn two_channels_on_one_loudspeaker_keep_their_power() {
        near(
            &mixed(ChannelLayout::STEREO, ChannelLayout::MONO, &[0.5, 0.25]),
            &[0.75 * FRAC_1_SQRT_2],
        );
    }

    #[test]
    fn channels_without_places_keep_their_numbers() {
        let nine = ChannelLayout::from_count(9);
        let frame: Vec<f32> = (0_u8..9).map(f32::from).collect();
        near(&mixed(nine, ChannelLayout::STEREO, &frame), &[0.0, 1.0]);
        near(&mixed(nine, ChannelLayout::MONO, &frame), &[4.0]);
    }

    #[test]
    fn what_is_right_already_is_not_touched() {
        assert_eq!(Mixer::new(ChannelLayout::STEREO, ChannelLayout::STEREO), None);
        assert_eq!(
            Mixer::new(ChannelLayout::from_count(9), ChannelLayout::from_count(9)),
            None
        );
    }

    #[test]
    fn each_channel_but_lfe_is_heard_in_every_usual_layout() {
        for from in 1..=8 {
            for to in 1..=8 {
                let (from, to) = (ChannelLayout::from_count(from), ChannelLayout::from_count(to));
                let Some(mixer) = Mixer::new(from, to) else {
                    continue;
                };
                for (index, place) in places(from.mask()).enumerate() {
                    let heard: f32 = mixer.rows.chunks(mixer.from).map(|row| row[index]).sum();
                    assert_eq!(
                        heard > 0.4,
                        place != LFE || to.mask() & LFE != 0,
                        "{place} of {from:?} in {to:?}"
                    );
                }
            }
        }
    }
}
