//! S10 and fault A8: the same scenarios on every executor, with the driver spawned, inline, and handed to that executor; and
//! what is left when an executor is shut down.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use futures_lite::{StreamExt, future};
use kithara::stream::{Driver, Stream, StreamError, StreamParams};

use crate::scenarios::{self, small};
use crate::tape::{self, Act, Deck, Tape};

/// All scenarios in the three ways to run a driver.
async fn suite(spawn: impl Fn(Driver<Tape>) + Sync) {
    scenarios::all(&Stream::new).await;
    scenarios::all(&Stream::inline).await;
    scenarios::all(&|source: Tape, params: StreamParams| {
        let (stream, driver) = Stream::with_driver(source, params);
        spawn(driver);
        stream
    })
    .await;
}

#[test]
fn s10_on_async_std() {
    async_std::task::block_on(suite(|driver| drop(async_std::task::spawn(driver))));
}

#[test]
fn s10_on_smol() {
    smol::block_on(suite(|driver| smol::spawn(driver).detach()));
}

#[test]
fn s10_on_an_executor_of_one_thread() {
    let executor = smol::LocalExecutor::new();
    future::block_on(executor.run(suite_local(&executor)));
}

/// As `suite`, for drivers that stay on this thread.
async fn suite_local(executor: &smol::LocalExecutor<'_>) {
    for acts in [&[Act::Play(10)][..], &[Act::Wait]] {
        let (source, deck) = tape::scripted(1000, acts);
        let (mut stream, driver) = Stream::with_driver(source, small());
        executor.spawn(driver).detach();
        stream.handle().seek_bytes(80).await.unwrap();
        assert_eq!(scenarios::read(&mut stream).await.unwrap(), tape::bytes(80, 1000));
        assert!(deck.gone.recv().await.is_err());
    }
}

#[test]
fn s10_on_tokio_current_thread() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(suite(|driver| drop(tokio::spawn(driver))));
}

#[test]
fn s10_on_tokio_multi_thread() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(3)
        .build()
        .unwrap();
    runtime.block_on(async {
        // On a worker too, not only beside the runtime.
        tokio::spawn(suite(|driver| drop(tokio::spawn(driver))))
            .await
            .unwrap();
    });
}

#[test]
fn s10_on_a_hand_rolled_executor() {
    let rolled = Rolled::default();
    let spawner = rolled.clone();
    rolled.block_on(suite(move |driver| spawner.spawn(driver)));
}

/// Reads a chunk, then leaves: the executor is shut down behind its back.
async fn first_chunk(stream: &mut Stream<Tape>) {
    assert_eq!(stream.next().await.unwrap().unwrap(), tape::bytes(0, 8));
    assert!(future::poll_once(stream.next()).await.is_none());
}

fn stalled() -> (Stream<Tape>, Driver<Tape>, Arc<Deck>) {
    let (source, deck) = tape::scripted(1000, &[Act::Data(8), Act::Wait]);
    let (stream, driver) = Stream::with_driver(source, small());
    (stream, driver, deck)
}

/// S3: the error, and the source is gone with its executor.
fn assert_gone(mut stream: Stream<Tape>, deck: &Deck) {
    let handle = stream.handle();
    future::block_on(async {
        let error = stream.next().await.unwrap().unwrap_err();
        assert!(matches!(error, StreamError::DriverGone { panic: None }));
        assert!(stream.next().await.is_none());
        assert!(handle.seek_bytes(0).await.unwrap_err().is_closed());
        assert!(deck.gone.recv().await.is_err());
    });
}

#[test]
fn a8_shutting_down_smols_executor() {
    let (mut stream, driver, deck) = stalled();
    let executor = smol::Executor::new();
    executor.spawn(driver).detach();
    future::block_on(executor.run(first_chunk(&mut stream)));
    drop(executor);
    assert_gone(stream, &deck);
}

#[test]
fn a8_shutting_down_tokio() {
    for threads in [0, 2] {
        let mut builder = match threads {
            0 => tokio::runtime::Builder::new_current_thread(),
            _ => tokio::runtime::Builder::new_multi_thread(),
        };
        let (mut stream, driver, deck) = stalled();
        let runtime = builder.build().unwrap();
        drop(runtime.spawn(driver));
        runtime.block_on(first_chunk(&mut stream));
        drop(runtime);
        assert_gone(stream, &deck);
    }
}

#[test]
fn a8_shutting_down_a_hand_rolled_executor() {
    let (mut stream, driver, deck) = stalled();
    let rolled = Rolled::default();
    rolled.spawn(driver);
    rolled.block_on(first_chunk(&mut stream));
    rolled.shut_down();
    assert_gone(stream, &deck);
}

/// Fault A8: shut down before the driver ever ran.
#[test]
fn a8_an_executor_that_never_ran() {
    let (stream, driver, deck) = stalled();
    let executor = smol::Executor::new();
    executor.spawn(driver).detach();
    drop(executor);
    assert_gone(stream, &deck);
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// About the least that deserves the name: tasks, a queue of those that were woken, one thread.
#[derive(Clone, Default)]
struct Rolled(Arc<Shared>);

#[derive(Default)]
struct Shared {
    tasks: Mutex<Vec<Option<Task>>>,
    woken: Mutex<VecDeque<usize>>,
    bell: Condvar,
}

const MAIN: usize = usize::MAX;

struct Id(usize, Arc<Shared>);

impl Wake for Id {
    fn wake(self: Arc<Self>) {
        self.1.woken.lock().unwrap().push_back(self.0);
        self.1.bell.notify_one();
    }
}

impl Rolled {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.0.tasks.lock().unwrap();
        tasks.push(Some(Box::pin(task)));
        self.waker(tasks.len() - 1).wake();
    }

    fn waker(&self, id: usize) -> Waker {
        Arc::new(Id(id, Arc::clone(&self.0))).into()
    }

    fn block_on<T>(&self, main: impl Future<Output = T>) -> T {
        let mut main = std::pin::pin!(main);
        self.waker(MAIN).wake();
        loop {
            let mut woken = self.0.woken.lock().unwrap();
            let id = loop {
                match woken.pop_front() {
                    Some(id) => break id,
                    None => woken = self.0.bell.wait(woken).unwrap(),
                }
            };
            drop(woken);
            let waker = self.waker(id);
            let mut cx = Context::from_waker(&waker);
            if id == MAIN {
                if let Poll::Ready(done) = main.as_mut().poll(&mut cx) {
                    return done;
                }
                continue;
            }
            // Out of the list while it runs: it may spawn.
            let task = self.0.tasks.lock().unwrap()[id].take();
            if let Some(mut task) = task
                && task.as_mut().poll(&mut cx).is_pending()
            {
                self.0.tasks.lock().unwrap()[id] = Some(task);
            }
        }
    }

    fn shut_down(&self) {
        let tasks = std::mem::take(&mut *self.0.tasks.lock().unwrap());
        drop(tasks);
    }
}
