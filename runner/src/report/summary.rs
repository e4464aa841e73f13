//! The summary at the end of a run: a table of the jobs, and below it why each failure happened.

use std::{fmt::Write as _, path::Path, time::Duration};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::{
    junit::Totals,
    quantity::{Bytes, Elapsed, count},
    record::{Conclusion, FILE_NAME, JobRecord, RunRecord, StepRecord},
    style::{Paint, fit, one_line, wrap},
};
use crate::{log::reader::last_lines, network};

/// The width that every terminal has.
const WIDTH: usize = 80;
/// Failed tests that are named for each job.
const TESTS_SHOWN: usize = 5;
/// Lines of a failed step's log that are shown.
const TAIL_LINES: usize = 10;

/// The last lines of steps' logs of the run in `directory`, for [`render`] and for JUnit. A log
/// that cannot be read gives one line that says so: the summary is more important.
pub(crate) fn log_tail(directory: &Path) -> impl Fn(&StepRecord) -> Vec<String> {
    move |step| match &step.log {
        None => Vec::new(),
        Some(log) => last_lines(&directory.join(&log.path), TAIL_LINES).unwrap_or_else(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            vec![format!("{error}: {}", cause.unwrap_or_default())]
        }),
    }
}

/// The summary of `run`, whose files are in `directory`. `tail` gives the last lines of a step's
/// log, cleaned for showing.
pub(crate) fn render(
    run: &RunRecord,
    directory: &Path,
    colour: bool,
    tail: &dyn Fn(&StepRecord) -> Vec<String>,
) -> String {
    let paint = Paint { colour };
    let mut text = table(run, paint);
    for job in run.jobs.iter().filter(|job| job.conclusion.is_failure()) {
        text.push('\n');
        failure(job, directory, paint, tail, &mut text);
    }
    for job in run.jobs.iter().filter(|job| !job.conclusion.is_failure()) {
        remarks(job, paint, &mut text);
    }
    if !run.residue.is_empty() {
        text.push_str("\nleft behind by this run; `cofferdam gc` tries again to remove it:\n");
        for residue in &run.residue {
            push_line(&mut text, format_args!("  {}", one_line(residue)));
        }
    }
    text.push('\n');
    push_line(&mut text, format_args!("{}", totals(run, paint)));
    let record = directory.join(FILE_NAME);
    push_line(&mut text, format_args!("{}", paint.dim(&format!("record: {}", record.display()))));
    text
}

fn push_line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing into a string cannot fail.
    let _ = writeln!(text, "{line}");
}

fn table(run: &RunRecord, paint: Paint) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(u16::try_from(WIDTH).unwrap_or(u16::MAX))
        .set_header(["STATUS", "JOB", "TIME", "MEMORY", "TESTS"]);
    for job in &run.jobs {
        table.add_row([
            status(job),
            one_line(&job.name),
            wall(job).map_or_else(|| "-".to_owned(), |wall| Elapsed(wall).to_string()),
            memory(job).map_or_else(|| "-".to_owned(), |memory| Bytes(memory).to_string()),
            job.tests.as_ref().map_or_else(|| "-".to_owned(), tests),
        ]);
    }
    for column in [2, 3] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = String::new();
    for line in table.lines() {
        // The table measures its cells, so it is coloured when it stands: the status comes first.
        let line = line.trim_end();
        let begins = |job: &&JobRecord| line.trim_start().starts_with(&status(job));
        match run.jobs.iter().find(begins) {
            Some(job) => {
                let status = status(job);
                let rest = line.trim_start().get(status.len()..).unwrap_or_default();
                let status = paint.conclusion(&status, job.conclusion);
                push_line(&mut text, format_args!(" {status}{rest}"));
            }
            None if line.trim_start().starts_with("STATUS") => {
                push_line(&mut text, format_args!("{}", paint.bold(line)));
            }
            None => push_line(&mut text, format_args!("{line}")),
        }
    }
    text
}

fn status(job: &JobRecord) -> String {
    let (symbol, word) = (job.conclusion.symbol(), job.conclusion.word());
    match job.conclusion {
        Conclusion::Passed if job.flaky => format!("{symbol} {word}, flaky"),
        _ if job.failure_allowed && job.conclusion.is_failure() => {
            format!("{symbol} {word}, allowed")
        }
        _ => format!("{symbol} {word}"),
    }
}

fn wall(job: &JobRecord) -> Option<Duration> {
    let first = job.attempts.first()?;
    let last = job.attempts.last()?;
    Duration::try_from(last.ended.duration_since(first.started)).ok()
}

fn memory(job: &JobRecord) -> Option<u64> {
    job.attempts.iter().filter_map(|attempt| attempt.usage.memory_peak).max()
}

fn tests(totals: &Totals) -> String {
    match totals.failures_count() {
        0 => format!("{} passed", totals.passed),
        failed => format!("{} passed, {failed} failed", totals.passed),
    }
}

fn failure(
    job: &JobRecord,
    directory: &Path,
    paint: Paint,
    tail: &dyn Fn(&StepRecord) -> Vec<String>,
    text: &mut String,
) {
    let why = one_line(job.why.as_deref().unwrap_or("no reason was recorded"));
    let sentence = format!("{} {}: {why}", job.conclusion.symbol(), one_line(&job.name));
    for (number, line) in wrap(&sentence, WIDTH - 2).into_iter().enumerate() {
        let line = if number == 0 { line } else { format!("  {line}") };
        push_line(text, format_args!("{}", paint.conclusion(&line, job.conclusion)));
    }
    if let Some(totals) = &job.tests {
        failed_tests(totals, text);
    }
    left_out(job, text);
    if let Some(used) = job.attempts.last().and_then(|attempt| attempt.network.as_ref()) {
        let lost = used.lost.as_deref().map(network::loss);
        let refused = network::refusals(network::NOT_ALLOWED, &used.denied);
        for sentence in lost.into_iter().chain(refused) {
            push_line(text, format_args!("  {}", fit(&one_line(&sentence), WIDTH - 2)));
        }
    }
    let steps = job.attempts.last().map(|attempt| attempt.steps.as_slice()).unwrap_or_default();
    let Some(step) = steps.iter().find(|step| step.conclusion.is_failure()) else { return };
    let Some(log) = &step.log else { return };
    let lines = tail(step);
    let has_network = step.network.is_some()
        || job.attempts.last().is_some_and(|attempt| attempt.network.is_some());
    if !has_network && network::is_missed(&lines) {
        push_line(text, format_args!("  {}", network::NONE));
    }
    for line in lines {
        let line = line.replace('\t', "    ");
        push_line(text, format_args!("  {} {}", paint.dim("|"), fit(&line, WIDTH - 4)));
    }
    let dropped = match log.dropped {
        0 => String::new(),
        dropped => format!(" ({} dropped)", Bytes(dropped)),
    };
    push_line(text, format_args!("  log: {}{dropped}", directory.join(&log.path).display()));
}

/// What a job's reports and files say that its conclusion does not.
fn remarks(job: &JobRecord, paint: Paint, text: &mut String) {
    let odd = job.tests.as_ref().and_then(|totals| match totals.failures_count() {
        0 if totals.remarks.is_empty() => None,
        0 => Some("its test reports are odd".to_owned()),
        failed => Some(format!("{} with {}", job.conclusion.word(), count(failed, "failed test"))),
    });
    let missing = job.left_out.is_some().then(|| "some of its files did not come out".to_owned());
    let Some(what) = odd.clone().or(missing) else { return };
    let sentence = format!("! {}: {what}", one_line(&job.name));
    let sentence = paint.bold(&fit(&sentence, WIDTH - 2));
    push_line(text, format_args!("\n{sentence}"));
    if let Some(totals) = job.tests.as_ref().filter(|_| odd.is_some()) {
        failed_tests(totals, text);
    }
    left_out(job, text);
}

fn left_out(job: &JobRecord, text: &mut String) {
    let Some(left_out) = &job.left_out else { return };
    for line in wrap(&format!("not taken: {}", one_line(left_out)), WIDTH - 4) {
        push_line(text, format_args!("  {line}"));
    }
}

fn failed_tests(totals: &Totals, text: &mut String) {
    for test in totals.failures.iter().take(TESTS_SHOWN) {
        // What a test says can be nothing but control characters.
        let line = match one_line(&test.message).trim() {
            "" => format!("test {}", one_line(&test.name)),
            message => format!("test {}: {message}", one_line(&test.name)),
        };
        push_line(text, format_args!("  {}", fit(&line, WIDTH - 2)));
    }
    let shown = u64::try_from(totals.failures.len().min(TESTS_SHOWN)).unwrap_or_default();
    let more = totals.failures_count().saturating_sub(shown);
    if more > 0 {
        push_line(text, format_args!("  and {}", count(more, "more failed test")));
    }
    for remark in &totals.remarks {
        push_line(text, format_args!("  {}", fit(&one_line(remark), WIDTH - 2)));
    }
}

fn totals(run: &RunRecord, paint: Paint) -> String {
    let passed = run.jobs.iter().filter(|job| job.conclusion == Conclusion::Passed).count();
    // Writing into a string cannot fail.
    let mut text = format!("{passed} of {} jobs passed", run.jobs.len());
    if let Some(wall) =
        run.ended.and_then(|ended| Duration::try_from(ended.duration_since(run.started)).ok())
    {
        let _ = write!(text, " in {}", Elapsed(wall));
    }
    let all: Vec<&Totals> = run.jobs.iter().filter_map(|job| job.tests.as_ref()).collect();
    if !all.is_empty() {
        let sum = |number: fn(&Totals) -> u64| all.iter().map(|totals| number(totals)).sum::<u64>();
        let _ = write!(
            text,
            "; {}: {} passed, {} failed, {} skipped",
            count(sum(Totals::all), "test"),
            sum(|totals| totals.passed),
            sum(Totals::failures_count),
            sum(|totals| totals.skipped),
        );
    }
    match run.conclusion {
        Some(conclusion) => {
            let word = paint.conclusion(conclusion.word(), conclusion);
            format!("{word}: {text}")
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::record::samples, *};

    fn plain(run: &RunRecord) -> String {
        render(run, Path::new("/runs/1"), false, &|_| {
            vec!["cc -c main.c".into(), format!("\terror: {}", "x".repeat(90))]
        })
    }

    #[test]
    fn a_run_with_a_job_of_each_kind() {
        insta::assert_snapshot!(plain(&samples::run()), @r"
         STATUS       JOB                TIME  MEMORY  TESTS
         ✓ passed     build            4.00 s  64 MiB  -
         ✗ failed     test (shard: 1)  4.00 s  64 MiB  61 passed, 2 failed
         ○ skipped    report                -       -  -
         ■ cancelled  publish               -       -  -

        ✗ test (shard: 1): step `make test` exited with code 2
          test parser bad: left == right
          test parser odd
          `out.xml` claims 70 tests and has 66: counted as it is
          | cc -c main.c
          |     error: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…
          log: /runs/1/logs/job/01-make test.log

        ! build: some of its files did not come out
          not taken: `pipe` is no file, `up` leads out

        failed: 1 of 4 jobs passed in 9.00 s; 66 tests: 61 passed, 2 failed, 3 skipped
        record: /runs/1/run.json
        ");
    }

    #[test]
    fn colour_changes_nothing_but_colour() {
        let run = samples::run();
        let coloured = render(&run, Path::new("/runs/1"), true, &|_| vec![]);
        let mut without = coloured.clone();
        for sequence in ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m"] {
            assert!(coloured.contains(sequence), "{sequence:?} is missing");
            without = without.replace(sequence, "");
        }
        assert_eq!(without, render(&run, Path::new("/runs/1"), false, &|_| vec![]));
    }

    #[test]
    fn long_and_hostile_names_stay_within_80_columns() {
        use unicode_width::UnicodeWidthStr as _;
        let mut run = samples::run();
        for job in &mut run.jobs {
            job.name = "日本 name\x1b[2J\n".repeat(12);
            job.flaky = true;
        }
        run.jobs[1].why = Some("step `x` was killed for memory: ".repeat(5));
        let text = plain(&run);
        assert!(!text.contains('\x1b'));
        for line in text.lines() {
            assert!(line.width() <= WIDTH, "{line:?}");
        }
    }

    #[test]
    fn the_tail_comes_from_the_log_or_says_why_not() {
        let directory = tempfile::tempdir().unwrap();
        let run = samples::run();
        let step = &run.jobs[1].attempts[0].steps[0];
        let path = directory.path().join(&step.log.as_ref().unwrap().path);
        let error = log_tail(directory.path())(step);
        assert_eq!(
            error,
            [format!(
                "failed to read the end of the log `{}`: No such file or directory (os error 2)",
                path.display()
            )]
        );
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, (0..30).map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        let tail = log_tail(directory.path())(step);
        assert_eq!((tail.len(), tail[0].as_str()), (TAIL_LINES, "20"));
        let skipped = &run.jobs[1].attempts[0].steps[1];
        assert!(log_tail(directory.path())(skipped).is_empty());
    }

    #[test]
    fn a_job_that_passed_tells_of_its_failed_tests_and_damaged_reports() {
        let mut run = samples::run();
        let tests = run.jobs[1].tests.clone();
        run.jobs[0].tests = tests.clone();
        run.jobs[2].tests =
            tests.map(|totals| Totals { failed: 0, errored: 0, failures: Vec::new(), ..totals });
        run.jobs.remove(1);
        insta::assert_snapshot!(plain(&run), @r"
         STATUS       JOB        TIME  MEMORY  TESTS
         ✓ passed     build    4.00 s  64 MiB  61 passed, 2 failed
         ○ skipped    report        -       -  61 passed
         ■ cancelled  publish       -       -  -

        ! build: passed with 2 failed tests
          test parser bad: left == right
          test parser odd
          `out.xml` claims 70 tests and has 66: counted as it is
          not taken: `pipe` is no file, `up` leads out

        ! report: its test reports are odd
          `out.xml` claims 70 tests and has 66: counted as it is

        failed: 1 of 3 jobs passed in 9.00 s; 130 tests: 122 passed, 2 failed, 6 skipped
        record: /runs/1/run.json
        ");
    }

    #[test]
    fn residue_is_told() {
        let mut run = samples::run();
        run.residue.push("mount /x".into());
        assert!(plain(&run).contains(
            "left behind by this run; `cofferdam gc` tries again to remove it:\n  mount /x\n"
        ));
    }
}
