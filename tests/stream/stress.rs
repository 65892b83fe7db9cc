//! Real threads: seekers, a slow consumer and dropping against each other.

use std::collections::HashSet;
use std::sync::Mutex;
use std::thread;

use futures_lite::{StreamExt, future};
use kithara::stream::{Stream, StreamError};

use crate::scenarios::small;
use crate::tape;

const SEEKERS: u64 = 3;
const SEEKS: u64 = 200;

/// S5, S6: nothing arrives but what continues, or what somebody asked for; everybody is answered.
#[test]
fn s6_seekers_and_a_slow_consumer() {
    for make in [Stream::new, Stream::inline] {
        let (source, deck) = tape::playing(u64::MAX, 64);
        let mut stream = make(source, small());
        let asked = Mutex::new(HashSet::from([0]));
        thread::scope(|scope| {
            let seekers: Vec<_> = (1..=SEEKERS)
                .map(|seeker| {
                    let (handle, asked) = (stream.handle(), &asked);
                    scope.spawn(move || {
                        for n in 1..=SEEKS {
                            let target = (seeker << 40) + (n << 20);
                            asked.lock().unwrap().insert(target);
                            let answer = future::block_on(handle.seek_bytes(target));
                            assert!(answer.err().is_none_or(|error| error.is_superseded()));
                        }
                    })
                })
                .collect();
            let mut expected = 0;
            let mut next = || {
                let chunk = future::block_on(stream.next()).unwrap().unwrap();
                let position = u64::from_be_bytes(chunk[..8].try_into().unwrap()) * 8;
                let goes_on = position == expected;
                assert!(
                    goes_on || asked.lock().unwrap().contains(&position),
                    "from nowhere: {position}"
                );
                assert_eq!(chunk, tape::bytes(position, position + 64));
                expected = position + 64;
                thread::yield_now();
            };
            while seekers.iter().any(|seeker| !seeker.is_finished()) {
                next();
            }
        });
        // Once they are silent, the last word is the last word.
        future::block_on(stream.handle().seek_bytes(8)).unwrap();
        assert_eq!(
            future::block_on(stream.next()).unwrap().unwrap(),
            tape::bytes(8, 72)
        );
        drop(stream);
        assert!(deck.gone.recv_blocking().is_err());
    }
}

/// S1, S6: the consumer leaves while seekers are at it.
#[test]
fn s1_dropping_under_seekers() {
    for round in 0..50_u64 {
        for make in [Stream::new, Stream::inline] {
            let (source, deck) = tape::playing(u64::MAX, 64);
            let mut stream = make(source, small());
            thread::scope(|scope| {
                for seeker in 0..SEEKERS {
                    let handle = stream.handle();
                    scope.spawn(move || {
                        for n in 0.. {
                            match future::block_on(handle.seek_bytes((seeker << 40) + n * 8)) {
                                Ok(()) | Err(StreamError::SeekSuperseded) => {}
                                Err(StreamError::ChannelClosed) => break,
                                Err(error) => panic!("{error:?}"),
                            }
                        }
                    });
                }
                scope.spawn(move || {
                    for _ in 0..round {
                        future::block_on(stream.next()).unwrap().unwrap();
                    }
                    drop(stream);
                });
            });
            assert!(deck.gone.recv_blocking().is_err());
        }
    }
}
