//! P5 and P7: a decode thread of its own, and a side to pull from that never waits.

use std::future::Future;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use futures_lite::{StreamExt, future::block_on};
use kithara::decode::{
    DecodeError, DecodeEvent, DecodeEvents, DecodeParams, Decoder, Output, OutputParams, PlayHandle, Underrun,
};

use crate::pcm::{bundled, open, whole};

/// What a pull of everything gives. It pulls faster than any sound card, and waits for what is not there.
fn drain(output: &mut Output) -> Vec<f32> {
    let mut samples = Vec::new();
    let mut buffer = [0.0; 1000];
    while !output.is_ended() {
        let count = output.pull(&mut buffer);
        samples.extend_from_slice(&buffer[..count]);
        if count == 0 {
            thread::yield_now();
        }
    }
    samples
}

/// Pulls exactly so many samples.
fn pull_exactly(output: &mut Output, samples: usize) -> Vec<f32> {
    let mut buffer = vec![0.0; samples];
    let mut filled = 0;
    while filled < samples && !output.is_ended() {
        filled += output.pull(&mut buffer[filled..]);
        thread::yield_now();
    }
    buffer.truncate(filled);
    buffer
}

fn output(name: &str) -> Output {
    let decoder = open(&bundled(name), &DecodeParams::new());
    decoder.into_output(OutputParams::default()).unwrap()
}

fn next_event(handle: &PlayHandle) -> Option<DecodeEvent> {
    handle.events().try_next().unwrap()
}

#[test]
fn p5_all_of_a_track_is_pulled() {
    for name in ["piece.flac", "piece.wav", "piece.ogg"] {
        let (want, _) = whole(&bundled(name));
        assert!(drain(&mut output(name)) == want, "{name}");
    }
}

#[test]
fn p5_the_iterator_gives_the_same_and_silence_where_there_is_none() {
    let (want, _) = whole(&bundled("piece.flac"));
    let params = OutputParams::new().underrun(Underrun::End);
    let decoder = open(&bundled("piece.flac"), &DecodeParams::new());
    let mut output = decoder.into_output(params).unwrap();
    let mut heard = Vec::new();
    while !output.is_ended() {
        heard.extend(output.by_ref());
        thread::yield_now();
    }
    assert!(heard == want);

    // A track that stalls for good: whole frames of silence.
    let (stalled, _gate) = Stalling::behind(std::fs::read(bundled("piece.wav")).unwrap(), 44 + 40_000 * 4);
    let mut output = Decoder::from_reader(stalled, &DecodeParams::new())
        .unwrap()
        .into_output(OutputParams::default())
        .unwrap();
    let before = pull_exactly(&mut output, 2 * 36_864);
    assert_eq!(before.len(), 2 * 36_864, "what was read is there");
    assert!(output.by_ref().take(1001).all(|sample| sample == 0.0));
    assert!(output.is_starved());
    let position = output.handle().position();
    assert_eq!(
        position.as_micros(),
        36_864 * 1_000_000 / 22_050,
        "and time stands still"
    );
}

#[test]
fn p5_starvation_is_told_and_so_is_its_end() {
    let (stalled, gate) = Stalling::behind(std::fs::read(bundled("piece.wav")).unwrap(), 44 + 40_000 * 4);
    let mut output = Decoder::from_reader(stalled, &DecodeParams::new())
        .unwrap()
        .into_output(OutputParams::default())
        .unwrap();
    pull_exactly(&mut output, 2 * 36_864);
    let mut events = output.handle().events();
    while events.try_next().unwrap().is_some() {}
    assert_eq!(output.pull(&mut [0.0; 64]), 0);
    assert_eq!(events.try_next().unwrap(), Some(DecodeEvent::Buffering));
    assert!(output.handle().missing_frames() >= 32);
    drop(gate);
    assert_eq!(pull_exactly(&mut output, 64).len(), 64);
    assert_eq!(events.try_next().unwrap(), Some(DecodeEvent::Resumed));
}

/// Sends a message when a task is woken.
struct Woken(Sender<()>);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        let _ = self.0.send(());
    }
}

/// Waits for an event that is not there, and tells when the task is woken.
fn wait_for_event(events: &mut DecodeEvents) -> Receiver<()> {
    let (sender, woken) = mpsc::channel();
    let waker = Waker::from(Arc::new(Woken(sender)));
    let polled = pin!(events.next()).poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    woken
}

/// No timer runs while only the decode thread, or the end, can bring an event.
#[test]
fn p7_what_brings_events_wakes_the_task_that_waits_for_them() {
    const LIMIT: Duration = Duration::from_secs(20);
    let (stalled, gate) = Stalling::behind(std::fs::read(bundled("piece.wav")).unwrap(), 44 + 40_000 * 4);
    let mut output = Decoder::from_reader(stalled, &DecodeParams::new())
        .unwrap()
        .into_output(OutputParams::default())
        .unwrap();
    pull_exactly(&mut output, 2 * 36_864);
    assert_eq!(output.pull(&mut [0.0; 64]), 0);
    let mut events = output.handle().events();
    while events.try_next().unwrap().is_some() {}
    let woken = wait_for_event(&mut events);
    drop(gate);
    woken.recv_timeout(LIMIT).expect("there is sound again");
    drain(&mut output);
    while events.try_next().unwrap().is_some() {}
    let woken = wait_for_event(&mut events);
    let handle = output.handle();
    block_on(handle.seek(Duration::ZERO)).unwrap();
    woken.recv_timeout(LIMIT).expect("the track begins anew");
    drain(&mut output);
    while events.try_next().unwrap().is_some() {}
    let woken = wait_for_event(&mut events);
    drop(output);
    woken.recv_timeout(LIMIT).expect("all is over");
    assert!(block_on(events.next()).is_none());
}

#[test]
fn p5_after_a_seek_nothing_made_before_it_is_heard() {
    let (want, _) = whole(&bundled("piece.flac"));
    let mut output = output("piece.flac");
    let handle = output.handle();
    for frame in [100_000_usize, 0, 131_000, 40_000, 40_001] {
        pull_exactly(&mut output, 500);
        let time = Duration::from_nanos(frame as u64 * 1_000_000_000 / 22_050 + 1);
        block_on(handle.seek(time)).unwrap();
        let shown = handle.position().as_secs_f64() * 22_050.0;
        assert!(
            (shown - frame as f64).abs() < 0.5,
            "at once: {shown} is not {frame}"
        );
        let heard = pull_exactly(&mut output, 2000);
        assert!(
            heard == want[frame * 2..frame * 2 + heard.len()],
            "seek to {frame}"
        );
    }
    // Also by the iterator, which holds some samples of its own.
    output.next();
    output.next();
    block_on(handle.seek(Duration::ZERO)).unwrap();
    let heard: Vec<f32> = output
        .by_ref()
        .skip_while(|sample| *sample == 0.0)
        .take(100)
        .collect();
    let first = want.iter().position(|sample| *sample != 0.0).unwrap();
    assert!(heard == want[first..first + 100]);
}

#[test]
fn p5_seeks_while_nothing_is_pulled_are_heard_when_it_is() {
    let (want, _) = whole(&bundled("piece.flac"));
    let mut output = output("piece.flac");
    let handle = output.handle();
    for frame in [10_000_u64, 90_000, 20_000, 30_000, 70_000] {
        let time = Duration::from_nanos(frame * 1_000_000_000 / 22_050 + 1);
        block_on(handle.seek(time)).unwrap();
    }
    let heard = pull_exactly(&mut output, 8000);
    assert!(heard == want[140_000..148_000]);
}

#[test]
fn p5_of_many_seeks_the_last_counts_and_all_are_answered() {
    let (stalled, gate) = Stalling::behind(std::fs::read(bundled("piece.wav")).unwrap(), 44 + 40_000 * 4);
    let output = Decoder::from_reader(stalled, &DecodeParams::new())
        .unwrap()
        .into_output(OutputParams::new().ring(Duration::from_secs(10)))
        .unwrap();
    let handle = output.handle();
    // The thread waits for bytes, and cannot look: the commands wait.
    gate.wait_until_reached();
    let mut seeks: Vec<_> = (0..4)
        .map(|second| {
            let handle = handle.clone();
            Box::pin(async move { handle.seek(Duration::from_millis(second * 100)).await })
        })
        .collect();
    for seek in &mut seeks {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(pin!(seek).as_mut().poll(&mut cx).is_pending());
    }
    drop(gate);
    let answers: Vec<_> = seeks.into_iter().map(block_on).collect();
    assert!(matches!(answers[0], Err(DecodeError::SeekSuperseded)));
    assert!(matches!(answers[2], Err(DecodeError::SeekSuperseded)));
    assert!(answers[3].is_ok());
}

#[test]
fn p7_events_are_told_when_their_frame_is_heard() {
    let mut first = open(&bundled("piece.wav"), &DecodeParams::new());
    first.then(open(&bundled("piece.wav"), &DecodeParams::new()));
    let mut output = first.into_output(OutputParams::default()).unwrap();
    let handle = output.handle();
    let told = block_on(handle.events().next()).unwrap().unwrap();
    assert!(matches!(told, DecodeEvent::FormatChanged(_)));
    pull_exactly(&mut output, 2 * 66_149);
    assert_eq!(next_event(&handle), None);
    assert_eq!(handle.position().as_micros(), 66_149 * 1_000_000 / 22_050);
    pull_exactly(&mut output, 2);
    // The second track may not be in the ring yet.
    let told = block_on(handle.events().next()).unwrap().unwrap();
    assert_eq!(told, DecodeEvent::TrackChanged);
    assert_eq!(handle.position(), Duration::ZERO);
    drain(&mut output);
    while let Some(event) = next_event(&handle) {
        if event == DecodeEvent::Ended {
            return;
        }
    }
    panic!("the end was not told");
}

#[test]
fn p7_a_seek_goes_back_in_the_track_that_is_heard() {
    let (want, _) = whole(&bundled("piece.wav"));
    let mut first = open(&bundled("piece.wav"), &DecodeParams::new());
    first.then(open(&bundled("piece.ogg"), &DecodeParams::new()));
    let mut output = first.into_output(OutputParams::default()).unwrap();
    let handle = output.handle();
    // The second track is decoded by now, and not heard.
    pull_exactly(&mut output, 2 * 66_000);
    block_on(handle.seek(Duration::ZERO)).unwrap();
    assert_eq!(output.spec().sample_rate, 22_050);
    let heard = pull_exactly(&mut output, 2 * 66_150);
    assert!(heard == want);
    let second = drain(&mut output);
    assert_eq!(second.len(), 2 * 882_000);
    assert_eq!(output.spec().sample_rate, 44_100);
}

#[test]
fn p9_a_track_queued_by_the_handle_follows() {
    let (want, _) = whole(&bundled("piece.wav"));
    let mut output = output("piece.wav");
    output
        .handle()
        .then(open(&bundled("piece.wav"), &DecodeParams::new()));
    let heard = pull_exactly(&mut output, 4 * 66_150);
    assert!(heard == [&want[..], &want].concat());
    block_on(async {
        let skipped = output.handle().skip().await;
        assert!(matches!(skipped, Err(DecodeError::NothingQueued)));
    });
}

/// P9: what is queued behind a track that failed waits for a skip. Often, as the thread may or may not look between the two
/// commands.
#[test]
fn p9_a_failure_is_told_once_and_a_skip_goes_on() {
    let (want, _) = whole(&bundled("piece.wav"));
    for _ in 0..8 {
        let failing = Failing(Cursor::new(std::fs::read(bundled("piece.wav")).unwrap()));
        let first = Decoder::from_reader(failing, &DecodeParams::new()).unwrap();
        let mut output = first.into_output(OutputParams::default()).unwrap();
        let handle = output.handle();
        let mut events = handle.events();
        drain(&mut output);
        while events.try_next().is_ok() {}
        handle.then(open(&bundled("piece.wav"), &DecodeParams::new()));
        block_on(handle.skip()).unwrap();
        assert!(drain(&mut output) == want);
        while events.try_next().unwrap() != Some(DecodeEvent::Ended) {}
    }
}

/// Bytes behind half of the file cannot be read.
struct Failing(Cursor<Vec<u8>>);

impl Read for Failing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = (self.0.get_ref().len() as u64 / 2).saturating_sub(self.0.position());
        if left == 0 {
            return Err(io::Error::other("no such bytes"));
        }
        let most = buffer.len().min(left as usize);
        self.0.read(&mut buffer[..most])
    }
}

impl Seek for Failing {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

#[test]
fn blocks_are_a_stream_that_can_be_sought_in() {
    let (want, _) = whole(&bundled("piece.flac"));
    let decoder = open(&bundled("piece.flac"), &DecodeParams::new());
    let mut blocks = decoder.into_blocks().unwrap();
    let handle = blocks.handle();
    block_on(async {
        let first = blocks.next().await.unwrap().unwrap();
        assert_eq!(first.position(), 0);
        handle.seek(Duration::from_secs(3)).await.unwrap();
        let mut heard = Vec::new();
        while let Some(block) = blocks.try_next().await.unwrap() {
            heard.extend_from_slice(block.samples());
            if heard.len() == 2 * 66_150 {
                break;
            }
        }
        assert!(heard == want[2 * 66_150..]);
    });
}

/// Found by the example in the docs, which did not end.
#[test]
fn blocks_end_where_the_track_does_and_a_seek_goes_on() {
    for name in ["piece.flac", "piece.wav"] {
        let (want, _) = whole(&bundled(name));
        let mut blocks = open(&bundled(name), &DecodeParams::new()).into_blocks().unwrap();
        let handle = blocks.handle();
        block_on(async {
            for _ in 0..2 {
                let mut heard = Vec::new();
                while let Some(block) = blocks.try_next().await.unwrap() {
                    heard.extend_from_slice(block.samples());
                }
                assert!(heard == want, "{name}");
                handle.seek(Duration::ZERO).await.unwrap();
            }
        });
    }
}

/// The drop itself only signals. What the thread reads from is dropped by the thread.
#[test]
fn p5_a_drop_ends_the_thread_in_every_state() {
    let file = std::fs::read(bundled("piece.wav")).unwrap();
    let dropped = |state: &dyn Fn(&mut Output), stall_at: usize| {
        let (stalled, gate) = Stalling::behind(file.clone(), stall_at);
        let gone = gate.gone();
        let mut output = Decoder::from_reader(stalled, &DecodeParams::new())
            .unwrap()
            .into_output(OutputParams::default())
            .unwrap();
        state(&mut output);
        drop(output);
        // A reader that is no reader of ours cannot be interrupted.
        drop(gate);
        gone.recv_timeout(Duration::from_secs(20))
            .expect("the thread is gone");
    };
    dropped(&|_| {}, usize::MAX);
    dropped(&|output| drop(pull_exactly(output, 10_000)), usize::MAX);
    dropped(&|output| drop(drain(output)), usize::MAX);
    dropped(&|_| {}, 44 + 40_000 * 4);
    dropped(
        &|output| {
            let handle = output.handle();
            let mut cx = Context::from_waker(Waker::noop());
            let polled = pin!(handle.seek(Duration::from_secs(1))).poll(&mut cx);
            assert!(matches!(polled, Poll::Pending | Poll::Ready(Ok(()))));
        },
        44 + 40_000 * 4,
    );
}

#[test]
fn handles_of_what_is_gone_say_so() {
    let output = output("piece.wav");
    let handle = output.handle();
    let mut events = handle.events();
    drop(output);
    assert!(handle.is_stopped());
    block_on(async {
        assert!(matches!(
            handle.seek(Duration::ZERO).await,
            Err(DecodeError::Stopped)
        ));
        while events.next().await.is_some() {}
    });
}

/// P5: the pull side's file names nothing that waits. (That it makes no system call and allocates nothing is measured too.)
#[test]
fn p5_the_pull_side_has_nothing_to_wait_with() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("src/decode/output/pull.rs")).unwrap();
    let text: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    for word in [
        "Mutex",
        "Condvar",
        "RwLock",
        "channel::",
        "mpsc",
        "park",
        "sleep",
        "Vec",
        "Box",
        "block_on",
    ] {
        assert!(!text.contains(word), "{word}");
    }
}

#[test]
fn p5_a_pull_allocates_nothing() {
    let mut output = output("piece.flac");
    let mut buffer = [0.0; 4096];
    pull_exactly(&mut output, 4096);
    let info = allocation_counter::measure(|| {
        for _ in 0..2000 {
            output.pull(&mut buffer);
            output.next();
        }
        output.is_ended();
        output.spec();
    });
    assert_eq!(info.count_total, 0);
}

/// Bytes behind a place come only when the gate is dropped.
struct Stalling {
    bytes: Cursor<Vec<u8>>,
    stall_at: u64,
    opened: Option<Receiver<()>>,
    reached: Sender<()>,
    _gone: Sender<()>,
}

struct Gate {
    open: Option<Sender<()>>,
    reached: Receiver<()>,
    gone: std::cell::Cell<Option<Receiver<()>>>,
}

impl Stalling {
    fn behind(bytes: Vec<u8>, stall_at: usize) -> (Self, Gate) {
        let (open, opened) = mpsc::channel();
        let (reach, reached) = mpsc::channel();
        let (gone, is_gone) = mpsc::channel();
        let stalling = Self {
            bytes: Cursor::new(bytes),
            stall_at: stall_at as u64,
            opened: Some(opened),
            reached: reach,
            _gone: gone,
        };
        let gate = Gate {
            open: Some(open),
            reached,
            gone: std::cell::Cell::new(Some(is_gone)),
        };
        (stalling, gate)
    }
}

impl Gate {
    fn wait_until_reached(&self) {
        self.reached.recv().unwrap();
    }

    /// Resolves (by an error) when the reader has been dropped.
    fn gone(&self) -> Gone {
        Gone(self.gone.take().unwrap())
    }
}

struct Gone(Receiver<()>);

impl Gone {
    fn recv_timeout(&self, time: Duration) -> Result<(), ()> {
        match self.0.recv_timeout(time) {
            Err(mpsc::RecvTimeoutError::Disconnected) => Ok(()),
            _ => Err(()),
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open = None;
    }
}

impl Read for Stalling {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.stall_at.saturating_sub(self.bytes.position());
        if left == 0
            && let Some(opened) = self.opened.take()
        {
            let _ = self.reached.send(());
            // Ends when the gate is gone.
            let _ = opened.recv();
            self.stall_at = u64::MAX;
            return self.bytes.read(buffer);
        }
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let most = if self.opened.is_none() { buffer.len() } else { most };
        self.bytes.read(&mut buffer[..most])
    }
}

impl Seek for Stalling {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.bytes.seek(to)
    }
}
