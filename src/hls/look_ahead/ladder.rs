//! The Variant Streams that a source's streams may choose from, and what is known of each.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use super::super::{
    HlsError, Resource, ResourceKind,
    edition::EditionId,
    editions::{self, Question, Renewed},
    fetch::{Ask, Fetcher},
    fetch_context::FetchContext,
    load::{self, Load},
    local,
    pending_commits::PendingCommits,
    playlist::MultivariantPlaylist,
    selection::Rung,
    source_state::SourceState,
    track::{Part, Track},
    variants,
};
use crate::cache::CachePath;

/// One that could not be played is left out for so long, as Media3 does
/// (`LoadErrorHandlingPolicy.FallbackSelection`, 60 s).
const REFUSED: Duration = Duration::from_secs(60);

/// For so long what the cache has is preferred, where a server did not answer.
const AWAY: Duration = Duration::from_secs(10);

/// A list that is loaded.
pub(super) struct Known {
    pub(super) track: Arc<Track>,
    /// What the server is to be asked before something of it is fetched.
    pub(super) question: Option<Question>,
    /// Which of its parts the cache has, with their keys.
    kept: Vec<bool>,
}

struct Step {
    /// Its number in the Multivariant Playlist.
    variant: usize,
    rung: Rung,
    known: Option<Known>,
    refused_until: Option<Instant>,
}

pub(super) struct Ladder {
    master: Arc<MultivariantPlaylist>,
    edition: Option<EditionId>,
    /// The NAME of the audio Rendition that the lists are of, where the app has chosen one.
    rendition: Option<String>,
    steps: Vec<Step>,
    away_until: Option<Instant>,
}

/// The rungs to choose from, and which Variant Stream each is.
pub(super) struct Rungs {
    pub(super) rungs: Vec<Rung>,
    pub(super) variants: Vec<usize>,
}

impl Rungs {
    /// Leaves out the Variant Streams that are not meant.
    pub(super) fn retain(&mut self, is_meant: impl Fn(usize) -> bool) {
        let all = std::mem::take(&mut self.rungs)
            .into_iter()
            .zip(std::mem::take(&mut self.variants));
        let meant = all.filter(|(_, variant)| is_meant(*variant));
        (self.rungs, self.variants) = meant.unzip();
    }
}

/// The NAME of the Rendition that plays with a Variant Stream, where it has a list of its own.
fn rendition(fetcher: &Fetcher, master: &MultivariantPlaylist, variant: usize) -> Option<String> {
    let variant = master.variants.get(variant)?;
    let (rendition, _) = variants::separate_audio(fetcher, master, variant)?;
    Some(rendition.name.clone())
}

/// Finds what the cache has of the Variant Streams that a stream of `track` may choose from. Nothing is fetched. `question` is what
/// the server is to be asked of that one.
pub(super) async fn survey(
    fetcher: &Fetcher,
    track: &Arc<Track>,
    question: Option<Question>,
) -> Option<Ladder> {
    let master = track.master()?.clone();
    let name = fetcher.params.rendition_name();
    let entries = match fetcher.cache() {
        Some(cache) => cache.entries(&fetcher.asset).await.unwrap_or_default(),
        None => Vec::new(),
    };
    let entries: HashSet<CachePath> = entries.into_iter().map(|entry| entry.path).collect();
    let mut steps = Vec::new();
    let (variants, rungs) = variants::rungs(fetcher, &master, track.facts().number);
    for (variant, rung) in variants.into_iter().zip(rungs) {
        // Not the Rendition that is about to be left.
        let is_present = variant == track.facts().number
            && rendition(fetcher, &master, variant) == track.facts().rendition;
        let known = if is_present {
            Some((track.clone(), question))
        } else if entries.is_empty() {
            None
        } else {
            let load = Load {
                ask: Ask::Cache,
                edition: track.edition(),
                variant: None,
            };
            // What is missed on the way is no failure of the stream.
            let mut context = FetchContext::new(true);
            match load::variant(fetcher, &mut context, load, &master, variant).await {
                Ok(loaded) => {
                    let question = editions::question(fetcher, &loaded).await;
                    Some((Arc::new(loaded.track), question))
                }
                Err(_) => None,
            }
        };
        steps.push(Step {
            variant,
            rung,
            known: known.map(|(track, question)| Known::new(track, question, &entries)),
            refused_until: None,
        });
    }
    Some(Ladder {
        edition: track.edition().cloned(),
        rendition: name,
        master,
        steps,
        away_until: None,
    })
}

impl Known {
    fn new(track: Arc<Track>, question: Option<Question>, entries: &HashSet<CachePath>) -> Self {
        let is_kept = |part: usize| {
            let Some(media) = track.part(part).and_then(|part| part.media.as_ref()) else {
                return true;
            };
            let has_key = media
                .key
                .as_ref()
                .is_none_or(|key| entries.contains(&key.path) || local::is_local(&key.locator.url));
            has_key && (entries.contains(media.path()) || local::is_local(&media.locator.url))
        };
        let kept = (0..track.len()).map(is_kept).collect();
        Self {
            track,
            question,
            kept,
        }
    }

    /// How long what the cache has plays from the segment on that holds `time`. Zero if the segment is not there, or its
    /// section.
    fn cached_from(&self, time: Duration) -> Duration {
        let (section, first) = self.track.part_at(time);
        let is_kept = |part: usize| self.kept.get(part).copied().unwrap_or(false);
        if section.is_some_and(|section| !is_kept(section)) {
            return Duration::ZERO;
        }
        let missing = (first..self.track.len()).find(|part| !is_kept(*part));
        let end = missing.and_then(|part| self.track.part(part)).map(Part::time);
        end.unwrap_or(self.track.duration()).saturating_sub(time)
    }
}

impl Ladder {
    /// Whether it is one of the Variant Streams of `track`.
    pub(super) fn is_of(&self, fetcher: &Fetcher, track: &Track) -> bool {
        let is_same = |master: &Arc<MultivariantPlaylist>| {
            Arc::ptr_eq(master, &self.master) || **master == *self.master
        };
        let is_same_rendition = self.rendition == fetcher.params.rendition_name();
        is_same_rendition && self.edition.as_ref() == track.edition() && track.master().is_some_and(is_same)
    }

    /// Whether a list is that of one of its Variant Streams, and of the Rendition that the app wants.
    pub(super) fn takes(&self, fetcher: &Fetcher, track: &Track) -> bool {
        let facts = track.facts();
        self.is_of(fetcher, track) && rendition(fetcher, &self.master, facts.number) == facts.rendition
    }

    pub(super) fn master(&self) -> &Arc<MultivariantPlaylist> {
        &self.master
    }

    fn step(&mut self, variant: usize) -> Option<&mut Step> {
        self.steps.iter_mut().find(|step| step.variant == variant)
    }

    pub(super) fn known(&self, variant: usize) -> Option<&Known> {
        let step = self.steps.iter().find(|step| step.variant == variant);
        step.and_then(|step| step.known.as_ref())
    }

    /// Whether this is what is known of a Variant Stream.
    pub(super) fn is_known(&self, variant: usize, track: &Arc<Track>) -> bool {
        let known = self.known(variant);
        known.is_some_and(|known| known.question.is_none() && Arc::ptr_eq(&known.track, track))
    }

    /// The list of a Variant Stream is loaded, and is the server's own.
    pub(super) fn set_known(&mut self, variant: usize, track: Arc<Track>) {
        if let Some(step) = self.step(variant) {
            step.refused_until = None;
            let known = step.known.take();
            let kept = known.filter(|known| known.track.is_same_list(&track));
            let kept = kept.map_or_else(|| vec![false; track.len()], |known| known.kept);
            let question = None;
            step.known = Some(Known {
                track,
                question,
                kept,
            });
        }
    }

    /// A Variant Stream is not to be had.
    pub(super) fn refuse(&mut self, variant: usize, now: Instant) {
        if let Some(step) = self.step(variant) {
            step.refused_until = Some(now + REFUSED);
        }
    }

    /// What a list names was refused: its URLs may have expired.
    pub(super) fn refuse_urls(&mut self, variant: usize, now: Instant) {
        self.refuse(variant, now);
        if let Some(known) = self.step(variant).and_then(|step| step.known.as_mut()) {
            known.question = Some(Question::Refused);
        }
    }

    /// The cache does not have this part, whatever was found.
    pub(super) fn forget_kept(&mut self, variant: usize, part: usize) {
        self.set_kept(variant, part, false);
    }

    /// The server does not answer.
    pub(super) fn set_away(&mut self, now: Instant) {
        self.away_until = Some(now + AWAY);
    }

    /// Whether a server did not answer lately.
    pub(super) fn is_away(&self, now: Instant) -> bool {
        self.away_until.is_some_and(|until| until > now)
    }

    pub(super) fn note_kept(&mut self, variant: usize, part: usize) {
        self.set_kept(variant, part, true);
    }

    fn set_kept(&mut self, variant: usize, part: usize, is_kept: bool) {
        let known = self.step(variant).and_then(|step| step.known.as_mut());
        if let Some(kept) = known.and_then(|known| known.kept.get_mut(part)) {
            *kept = is_kept;
        }
    }

    /// What may be chosen for the segment at `time`. Without the server it is what the cache has.
    /// `present` is the Variant Stream at hand, which plays.
    pub(super) fn rungs_at(&self, time: Duration, present: usize, is_offline: bool, now: Instant) -> Rungs {
        let rung = |step: &Step| {
            let mut rung = step.rung.clone();
            if let Some(known) = &step.known {
                rung.cached = known.cached_from(time);
                let (_, first) = known.track.part_at(time);
                // Of what is not the playlist's own figure the size is learned when it has come.
                rung.next_bytes = known.track.part_len(first).filter(|len| *len > 0);
            }
            rung
        };
        let all: Vec<_> = self.steps.iter().map(|step| (step, rung(step))).collect();
        // A list that ends before this would be a false end.
        let is_over = |known: &Known| known.track.duration() <= time;
        let is_open = |step: &Step| {
            let is_refused = step.refused_until.is_some_and(|until| until > now)
                || step.known.as_ref().is_some_and(is_over);
            step.variant == present || !is_refused
        };
        let is_any_cached = all.iter().any(|(_, rung)| !rung.cached.is_zero());
        let is_cached_only = is_offline || self.is_away(now) && is_any_cached;
        // One that was refused is not offered for what the cache has of it either: its list would be asked for again and again.
        let chosen = all.into_iter().filter(|(step, rung)| {
            if is_cached_only {
                !rung.cached.is_zero()
            } else {
                is_open(step)
            }
        });
        let (variants, rungs) = chosen.map(|(step, rung)| (step.variant, rung)).unzip();
        Rungs { rungs, variants }
    }
}

/// Beside which list, which Variant Stream, what came of it, and the commits begun on the way.
pub(super) type Loaded = (Arc<Track>, usize, Result<Arc<Track>, HlsError>, PendingCommits);

/// Loads the list of a Variant Stream, and makes sure that it is the server's own.
pub(super) async fn load(
    state: Arc<SourceState>,
    beside: Arc<Track>,
    master: Arc<MultivariantPlaylist>,
    variant: usize,
    copy: Option<(Arc<Track>, Question)>,
) -> Loaded {
    let mut context = FetchContext::new(false);
    let loaded = async {
        let (track, question) = if let Some((track, question)) = copy {
            (track, Some(question))
        } else {
            let load = Load {
                ask: Ask::Cache,
                edition: beside.edition(),
                variant: None,
            };
            let loaded = load::variant(&state.fetcher, &mut context, load, &master, variant).await?;
            let question = editions::question(&state.fetcher, &loaded).await;
            (Arc::new(loaded.track), question)
        };
        let Some(question) = question else {
            return Ok(track);
        };
        let (renewed, commits) = editions::renew(state.clone(), track, question).await;
        context.commits.append(commits);
        match renewed? {
            Renewed::Same(track) => Ok(track),
            // The stream finds it out by itself, and goes over to it where it may.
            Renewed::Other { .. } => Err(HlsError::EditionChanged {
                resource: Resource::new(ResourceKind::Playlist, &state.fetcher.url),
            }),
        }
    }
    .await;
    (beside, variant, loaded, context.commits)
}
