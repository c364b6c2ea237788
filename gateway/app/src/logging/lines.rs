//! Takes log lines off the calls' path: they are gathered in memory and written in batches.
//!
//! A line costs its caller a copy. Worst case: if whoever reads the log stops reading, calls go on
//! and lines are lost; how many is said in the log once it is read again. Killing the process
//! loses the lines of the last batch, which the records do not depend on.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// How long lines are gathered. Long enough to make a batch of them, too short to be noticed.
const GATHER: Duration = Duration::from_millis(20);
/// The most that waits, in bytes.
const WAITING_BYTES: usize = 4 << 20;

#[derive(Default)]
struct Waiting {
    lines: Vec<u8>,
    lost: u64,
    writer_sleeps: bool,
    stop: bool,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, line: &[u8]) {
        let mut waiting = self.lock();
        if waiting.lines.len().saturating_add(line.len()) > WAITING_BYTES {
            waiting.lost = waiting.lost.saturating_add(1);
            return;
        }
        waiting.lines.extend_from_slice(line);
        // Waking the writer is a system call, so it is woken only if it sleeps.
        if std::mem::take(&mut waiting.writer_sleeps) {
            drop(waiting);
            self.wake.notify_one();
        }
    }

    /// Writes batches until told to stop and nothing waits.
    fn write(&self, mut to: impl Write) {
        let mut batch = Vec::new();
        loop {
            let idle = |waiting: &mut Waiting| {
                waiting.writer_sleeps = waiting.lines.is_empty() && !waiting.stop;
                waiting.writer_sleeps
            };
            let waiting = self.wake.wait_while(self.lock(), idle);
            let waiting = waiting.unwrap_or_else(PoisonError::into_inner);
            // Told to stop, it writes what there is at once.
            let until_stop = |waiting: &mut Waiting| !waiting.stop;
            let gathered = self.wake.wait_timeout_while(waiting, GATHER, until_stop);
            let (mut waiting, _) = gathered.unwrap_or_else(PoisonError::into_inner);
            let ends = waiting.stop;
            let lost = std::mem::take(&mut waiting.lost);
            std::mem::swap(&mut batch, &mut waiting.lines);
            drop(waiting);
            // There is nobody left to tell that the log cannot be written.
            drop(to.write_all(&batch));
            batch.clear();
            if lost > 0 {
                drop(writeln!(
                    to,
                    r#"{{"level":"WARN","message":"log lines were lost","lost":{lost}}}"#
                ));
            }
            if ends && self.lock().lines.is_empty() {
                return;
            }
        }
    }
}

/// Where `tracing` writes its lines.
#[derive(Clone)]
pub(super) struct Lines(Arc<Shared>);

/// Writes what still waits when it is dropped.
pub(crate) struct Flush {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

impl Lines {
    /// Starts the thread that writes to `to`.
    pub(super) fn start(to: impl Write + Send + 'static) -> io::Result<(Self, Flush)> {
        let shared = Arc::new(Shared::default());
        let writer = thread::Builder::new().name("log".into()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.write(to)
        })?;
        let flush = Flush {
            shared: Arc::clone(&shared),
            writer: Some(writer),
        };
        Ok((Self(shared), flush))
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.wake.notify_one();
        if let Some(writer) = self.writer.take() {
            drop(writer.join());
        }
    }
}

/// One line on its way.
pub(super) struct Line<'a>(&'a Shared);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(&self.0)
    }
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.take(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Hands each batch to the test, and blocks while the test does not look.
    struct Reader(mpsc::SyncSender<Vec<u8>>);

    impl Write for Reader {
        fn write(&mut self, batch: &[u8]) -> io::Result<usize> {
            self.0.send(batch.to_vec()).map_err(io::Error::other)?;
            Ok(batch.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_line_is_written_in_order_before_the_end() {
        let (batches, seen) = mpsc::sync_channel(1_000);
        let (lines, flush) = Lines::start(Reader(batches)).expect("a thread");
        for number in 0..1_000 {
            writeln!(lines.make_writer(), "line {number}").expect("never fails");
        }
        drop(flush);
        let text: Vec<u8> = seen.try_iter().flatten().collect();
        let expected: String = (0..1_000)
            .map(|number| format!("line {number}\n"))
            .collect();
        assert_eq!(String::from_utf8_lossy(&text), expected);
    }

    #[test]
    fn a_reader_that_stops_reading_costs_lines_and_no_waiting() {
        let (batches, seen) = mpsc::sync_channel(0);
        let (lines, flush) = Lines::start(Reader(batches)).expect("a thread");
        let line = vec![b'x'; 1 << 20];
        for _ in 0..12 {
            lines.make_writer().write_all(&line).expect("never fails");
        }
        let reader = thread::spawn(move || seen.iter().flatten().collect::<Vec<u8>>());
        drop(flush);
        drop(lines);
        let text = reader.join().expect("the reader ends");
        let kept = text.iter().filter(|byte| **byte == b'x').count() / line.len();
        assert!((4..12).contains(&kept), "{kept} lines were kept");
        let told = String::from_utf8_lossy(&text).contains("log lines were lost");
        assert!(told, "the loss is told");
    }
}
