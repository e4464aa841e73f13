//! A run as it is shown, on a pipe and on a terminal.

use std::sync::{Arc, Mutex};

use indicatif::TermLike;

use super::*;

/// What was written.
#[derive(Clone, Debug, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A terminal of [`COLUMNS`] columns: what stands on it, and the place of its cursor.
#[derive(Clone, Debug, Default)]
struct Screen(Arc<Mutex<Cells>>);

#[derive(Debug, Default)]
struct Cells {
    rows: Vec<Vec<char>>,
    row: usize,
    column: usize,
}

const COLUMNS: usize = 60;

impl Cells {
    fn put(&mut self, character: char) {
        match character {
            '\r' => return self.column = 0,
            '\n' => return (self.row, self.column) = (self.row + 1, 0),
            _ => {}
        }
        // As real terminals do, the line breaks when the next character comes.
        if self.column == COLUMNS {
            (self.row, self.column) = (self.row + 1, 0);
        }
        if self.rows.len() <= self.row {
            self.rows.resize(self.row + 1, Vec::new());
        }
        let row = &mut self.rows[self.row];
        if row.len() <= self.column {
            row.resize(self.column + 1, ' ');
        }
        row[self.column] = character;
        self.column += 1;
    }
}

impl Screen {
    fn lines(&self) -> Vec<String> {
        let cells = self.0.lock().unwrap();
        let lines = cells.rows.iter().map(|row| row.iter().collect::<String>());
        lines.map(|line| line.trim_end().to_owned()).filter(|line| !line.is_empty()).collect()
    }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        u16::try_from(COLUMNS).unwrap()
    }

    fn move_cursor_up(&self, rows: usize) -> io::Result<()> {
        let mut cells = self.0.lock().unwrap();
        cells.row = cells.row.saturating_sub(rows);
        Ok(())
    }

    fn move_cursor_down(&self, rows: usize) -> io::Result<()> {
        self.0.lock().unwrap().row += rows;
        Ok(())
    }

    fn move_cursor_right(&self, columns: usize) -> io::Result<()> {
        self.0.lock().unwrap().column += columns;
        Ok(())
    }

    fn move_cursor_left(&self, columns: usize) -> io::Result<()> {
        let mut cells = self.0.lock().unwrap();
        cells.column = cells.column.saturating_sub(columns);
        Ok(())
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.write_str(text)?;
        self.write_str("\n")
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        let mut cells = self.0.lock().unwrap();
        text.chars().for_each(|character| cells.put(character));
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        let mut cells = self.0.lock().unwrap();
        let row = cells.row;
        if let Some(row) = cells.rows.get_mut(row) {
            row.clear();
        }
        cells.column = 0;
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

fn output(job: usize, stream: Stream, bytes: &str) -> Event<'_> {
    Event::Output { job, stream, bytes: bytes.as_bytes() }
}

fn events() -> Vec<Event<'static>> {
    use Stream::{Stderr, Stdout};
    let second = Duration::from_millis(1234);
    vec![
        Event::RunStarted { run: "r1", jobs: &["build", "test (shard: 1)", "x\x1b[2J\ny"] },
        Event::JobQueued { job: 1, reason: "waits for 2 GiB of memory" },
        Event::JobStarted { job: 0, steps: 2 },
        Event::StepStarted { job: 0, number: 1, name: "make -j2" },
        output(0, Stdout, "cc main.c\ncc li"),
        output(0, Stderr, "warning: \x1b[31munused\x1b[0m\x1b]0;title\x07\n"),
        Event::JobStarted { job: 1, steps: 1 },
        Event::StepStarted { job: 1, number: 1, name: "run\ntests" },
        output(1, Stdout, "test one ... ok\n"),
        output(0, Stdout, "b.c\nno line feed"),
        Event::StepEnded { job: 0, conclusion: Conclusion::Passed, why: None },
        Event::StepStarted { job: 0, number: 2, name: "check" },
        Event::StepEnded {
            job: 0,
            conclusion: Conclusion::Failed,
            why: Some("step `check` exited with code 2"),
        },
        Event::JobEnded {
            job: 0,
            conclusion: Conclusion::Failed,
            elapsed: second,
            why: Some("step `check` exited with code 2"),
        },
        Event::JobEnded {
            job: 2,
            conclusion: Conclusion::Skipped,
            elapsed: Duration::ZERO,
            why: Some("job `x` was skipped: job `build` failed"),
        },
    ]
}

fn end() -> Vec<Event<'static>> {
    vec![
        Event::StepEnded { job: 1, conclusion: Conclusion::Passed, why: None },
        Event::JobEnded {
            job: 1,
            conclusion: Conclusion::Passed,
            elapsed: Duration::from_secs(90),
            why: None,
        },
        Event::RunEnded,
    ]
}

#[test]
fn a_pipe_gets_plain_whole_lines() {
    let buffer = Buffer::default();
    let mut display = Display::plain(Box::new(buffer.clone()), false);
    for event in events().into_iter().chain(end()) {
        display.show(event).unwrap();
    }
    insta::assert_snapshot!(buffer.text(), @r"
    run r1: 3 jobs
    test (shard: 1): waits for 2 GiB of memory
    build: step 1/2 make -j2
    build           | cc main.c
    build           ¦ warning: unused
    test (shard: 1): step 1/1 run tests
    test (shard: 1) | test one ... ok
    build           | cc lib.c
    build           | no line feed
    build: step 2/2 check
    build: step `check` exited with code 2
    build: failed after 1.23 s
    x y: job `x` was skipped: job `build` failed
    test (shard: 1): passed after 1 m 30 s
    ");
}

#[test]
fn colour_of_a_job_stays_in_its_line() {
    let buffer = Buffer::default();
    let mut display = Display::plain(Box::new(buffer.clone()), true);
    let jobs = ["a", "b"];
    display.show(Event::RunStarted { run: "r", jobs: &jobs }).unwrap();
    display.show(output(0, Stream::Stdout, "\x1b[31mred\n")).unwrap();
    display.show(output(1, Stream::Stdout, "plain\n")).unwrap();
    display.show(output(0, Stream::Stdout, "still\n")).unwrap();
    display.show(Event::StepEnded { job: 0, conclusion: Conclusion::Passed, why: None }).unwrap();
    display.show(output(0, Stream::Stdout, "next step\n")).unwrap();
    let text = buffer.text().replace('\x1b', "^");
    insta::assert_snapshot!(text, @r"
    run r: 2 jobs
    ^[36ma^[0m | ^[31mred^[0m
    ^[34mb^[0m | plain
    ^[36ma^[0m | ^[31mstill^[0m
    ^[36ma^[0m | next step
    ");
}

/// A line of progress with its spinner and its clock scrubbed.
fn without_time(line: &str) -> String {
    let spins = |character: char| ('\u{2800}'..='\u{28ff}').contains(&character);
    match line.strip_suffix('s').map(|line| line.trim_end_matches(|c: char| c.is_ascii_digit())) {
        Some(rest) if rest.starts_with(spins) || rest.starts_with("[=") => {
            format!("{rest}[time]").replace(spins, "*")
        }
        _ => line.to_owned(),
    }
}

#[test]
fn a_terminal_shows_a_line_per_running_job_below_the_output() {
    let screen = Screen::default();
    let target = ProgressDrawTarget::term_like(Box::new(screen.clone()));
    let mut display = Display::live(target, false, None);
    for event in events() {
        display.show(event).unwrap();
    }
    display.tick();
    let shown: Vec<String> = screen.lines().iter().map(|line| without_time(line)).collect();
    insta::assert_snapshot!(shown.join("\n"), @r"
    run r1: 3 jobs
    test (shard: 1): waits for 2 GiB of memory
    build: step 1/2 make -j2
    build           | cc main.c
    build           ¦ warning: unused
    test (shard: 1): step 1/1 run tests
    test (shard: 1) | test one ... ok
    build           | cc lib.c
    build           | no line feed
    build: step 2/2 check
    build: step `check` exited with code 2
    build: failed after 1.23 s
    x y: job `x` was skipped: job `build` failed
    * test (shard: 1) 1/1 run tests                          [time]
    [====================>         ] 2/3 jobs [time]
    ");
    for event in end() {
        display.show(event).unwrap();
    }
    // The lines of jobs are gone, the output stays.
    let lines = screen.lines();
    assert_eq!(lines.last().map(String::as_str), Some("test (shard: 1): passed after 1 m 30 s"));
    assert!(lines.iter().all(|line| !line.contains("jobs ")), "{lines:?}");
}

#[test]
fn a_closed_pipe_is_an_error() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut display = Display::plain(Box::new(Closed), false);
    let error = display.show(Event::RunStarted { run: "r", jobs: &[] }).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn events_of_jobs_that_do_not_exist_are_ignored() {
    let buffer = Buffer::default();
    let mut display = Display::plain(Box::new(buffer.clone()), false);
    for event in events().into_iter().skip(1) {
        display.show(event).unwrap();
    }
    assert_eq!(buffer.text(), "");
}
