//! strace: which system calls a child makes, and making them fail.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::OnceLock;

use crate::child::{BEGIN, END};
use crate::scene::say;

/// Calls that change the file system or can fail on it. A `?` lets strace pass over what this machine does not have.
/// Without `close`: the standard library panics where it fails on a directory.
const CALLS: &str = "?open,openat,?creat,?mkdir,mkdirat,?rename,?renameat,renameat2,?unlink,unlinkat,?rmdir,?link,linkat,\
    write,writev,pwrite64,pwritev,fsync,fdatasync,ftruncate,?stat,?lstat,fstat,?newfstatat,statx,getdents64,flock,\
    read,pread64";

/// Whether strace works here; says so if not.
pub(crate) fn works() -> bool {
    static WORKS: OnceLock<bool> = OnceLock::new();
    *WORKS.get_or_init(|| {
        let tried = Command::new("strace")
            .args([
                "-f",
                "-o",
                "/dev/null",
                "-e",
                "trace=fsync",
                "-e",
                "inject=fsync:error=EIO:when=1",
                "true",
            ])
            .output();
        let why = match tried {
            Ok(output) if output.status.success() => return true,
            Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => error.to_string(),
        };
        say(&format!(
            "SKIPPED: faults at system calls need a working strace: {}",
            why.trim()
        ));
        false
    })
}

fn strace(child: &Command, trace: &Path, inject: Option<&str>) -> Command {
    let mut command = Command::new("strace");
    if inject.is_none_or(|inject| inject.contains("error=")) {
        // Faster, but then strace injects no signals.
        command.arg("--seccomp-bpf");
    }
    command
        .args(["-f", "-qq", "-e", "signal=none", "-o"])
        .arg(trace)
        .arg("-e");
    command.arg(format!("trace={CALLS}"));
    if let Some(inject) = inject {
        command.args(["-e", &format!("inject={inject}")]);
    }
    command.arg(child.get_program()).args(child.get_args());
    for (name, value) in child.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

/// A call a child makes between the marks: its name, and the how-manieth of that name it is in its thread.
pub(crate) type Call = (String, usize);

/// The calls that a child makes between the marks, on all threads.
pub(crate) fn calls(child: &Command, trace: &Path) -> Vec<Call> {
    let output = strace(child, trace, None).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = std::fs::read_to_string(trace).unwrap();
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let (mut found, mut inside) = (Vec::new(), false);
    let mut before: BTreeMap<&str, usize> = BTreeMap::new();
    for line in text.lines() {
        let Some((thread, rest)) = line.split_once(' ') else {
            continue;
        };
        // The second half of a call that another thread's interrupted in the log.
        let Some((name, arguments)) = rest.trim_start().split_once('(') else {
            continue;
        };
        if name.starts_with('<') || name.contains(' ') {
            continue;
        }
        let count = counts.entry((thread, name)).or_default();
        *count += 1;
        let count = *count;
        if arguments.contains(BEGIN) {
            inside = true;
        } else if arguments.contains(END) {
            inside = false;
        } else if inside && before.get(name).is_none_or(|&before| before < count) {
            found.push((name.to_owned(), count));
        }
        if !inside {
            // What a thread has done as often before would be hit there.
            let most = before.entry(name).or_default();
            *most = count.max(*most);
        }
    }
    assert!(!found.is_empty(), "no calls between the marks:\n{text}");
    found.sort();
    found.dedup();
    found
}

/// Runs a child with something injected at one of its calls. One that hangs is killed.
pub(crate) fn run(child: &Command, trace: &Path, call: &Call, what: &str) -> Output {
    let (name, when) = call;
    let strace = strace(child, trace, Some(&format!("{name}:{what}:when={when}")));
    let mut command = Command::new("timeout");
    command
        .args(["--signal=KILL", "30"])
        .arg(strace.get_program())
        .args(strace.get_args());
    for (name, value) in strace.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.output().unwrap()
}

/// Whether what was injected hit the word by which one thread of the runtime wakes another, on an event descriptor:
/// the kernel never fails that one, and the runtime does not expect it to.
pub(crate) fn hit_a_wake_up(trace: &Path) -> bool {
    let text = std::fs::read_to_string(trace).unwrap();
    let mut asked: BTreeMap<&str, &str> = BTreeMap::new();
    for (thread, call) in text.lines().filter_map(|line| line.split_once(' ')) {
        // The second half of a call stands on a line of its own if another thread's came between.
        let call = call.trim_start();
        if !call.starts_with("<...") {
            asked.insert(thread, call);
        }
        if call.contains("(INJECTED)") {
            return asked
                .get(thread)
                .is_some_and(|call| call.contains(r"\1\0\0\0\0\0\0\0"));
        }
    }
    false
}
