//! S10 and fault A8 on smol's and tokio's executors: the scenarios of `tests/stream`, with the driver spawned, inline, and
//! handed to the executor; and what is left when it is shut down.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "a test fails by panicking; the modules of another suite are used in part"
)]

#[path = "../../stream/scenarios.rs"]
mod scenarios;
#[path = "../../stream/tape.rs"]
mod tape;

use futures_lite::future;
use kithara::stream::Stream;

use crate::scenarios::{assert_gone, first_chunk, small, stalled, suite};
use crate::tape::Act;

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

/// Fault A8: shut down before the driver ever ran.
#[test]
fn a8_an_executor_that_never_ran() {
    let (stream, driver, deck) = stalled();
    let executor = smol::Executor::new();
    executor.spawn(driver).detach();
    drop(executor);
    assert_gone(stream, &deck);
}
