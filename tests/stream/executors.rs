//! S10 and fault A8: the same scenarios on each executor, with the driver spawned, inline, and handed to that executor; and
//! what is left when an executor is shut down. Here async-std's executor and one made by hand; smol's and tokio's have
//! the same tests in `tests/interop`.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use crate::scenarios::{assert_gone, first_chunk, stalled, suite};

#[test]
fn s10_on_async_std() {
    async_std::task::block_on(suite(|driver| drop(async_std::task::spawn(driver))));
}

#[test]
fn s10_on_a_hand_rolled_executor() {
    let rolled = Rolled::default();
    let spawner = rolled.clone();
    rolled.block_on(suite(move |driver| spawner.spawn(driver)));
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
