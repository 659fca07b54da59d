//! Programs run by tests.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A program that takes longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(180);

/// What a program said.
#[derive(Clone, Debug)]
pub struct Output {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Exit code.
    pub code: i32,
}

impl Output {
    /// Standard output of a program that must have succeeded.
    ///
    /// # Panics
    /// It failed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}\n{}", self.stdout, self.stderr);
        self.stdout
    }

    /// Standard error of a program that must have failed.
    ///
    /// # Panics
    /// It succeeded.
    #[track_caller]
    pub fn failed(self) -> String {
        assert_ne!(self.code, 0, "it succeeded: {}", self.stdout);
        self.stderr
    }
}

/// Runs a program to its end, with this input.
///
/// # Panics
/// It cannot be started, or it hangs.
#[track_caller]
pub(crate) fn run(mut command: Command, input: &str) -> Output {
    use std::io::Write;
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_owned();
    let writer = std::thread::spawn(move || {
        // A program may end without reading all.
        let _ = stdin.write_all(input.as_bytes());
    });
    let stdout = read(child.stdout.take().expect("piped"));
    let stderr = read(child.stderr.take().expect("piped"));
    let code = wait(&mut child, &command);
    writer.join().expect("no panic");
    Output {
        stdout: stdout.join().expect("no panic"),
        stderr: stderr.join().expect("no panic"),
        code,
    }
}

fn read(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).expect("a pipe can be read");
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn wait(child: &mut Child, command: &Command) -> i32 {
    let began = Instant::now();
    loop {
        match child.try_wait().expect("it is ours") {
            Some(status) => return status.code().unwrap_or(-1),
            None if began.elapsed() > PATIENCE => {
                child.kill().expect("it is ours");
                child.wait().expect("it is ours");
                panic!("{command:?} hangs");
            }
            // The standard library has no wait with a limit; this is the resolution of the limit, not of the test.
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// A program that runs until it is dropped, for example `kubectl port-forward`.
#[derive(Debug)]
pub struct Running {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// The first line from now on that contains this.
    ///
    /// # Panics
    /// None comes.
    #[track_caller]
    pub fn line(&self, part: &str) -> String {
        loop {
            let line = self
                .lines
                .recv_timeout(PATIENCE)
                .expect("the program says what is expected");
            if line.contains(part) {
                return line;
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
