//! `cofferdam exec`: secrets, the log limit and the outcome as JSON.

use serde_json::Value;

use crate::{
    binary::Cofferdam,
    host::{Need, needs},
};

const TOKEN: &str = "s3cret-t0ken-&-more";

/// A secret is the command's, and `***` in everything that comes out, however it is written.
#[test]
fn secrets_are_masked() {
    needs!(Need::Containers);
    let cofferdam = Cofferdam::common().variable("TOKEN", TOKEN);
    let ended = cofferdam
        .script(
            &["--secret", "TOKEN"],
            r#"test "${#TOKEN}" = 19 || exit 9
            echo "plain $TOKEN end"; echo "error $TOKEN end" >&2
            printf 'x%s' "$TOKEN" | base64
            printf '%s' "$TOKEN" | od -An -tx1 | tr -d ' \n'; echo
            printf '%s' "$TOKEN" | cut -c1-7 | tr -d '\n'; sleep 0.2; printf '%s' "$TOKEN" | cut -c8-"#,
        )
        .expect(0)
        .says(&["plain *** end", "error *** end"]);
    for form in [
        TOKEN,
        "eHMzY3JldC10MGtlbi0mLW1vcmU", // base64 of `x` and the token
        "7333637265742d74306b656e2d262d6d6f7265",
    ] {
        assert!(!ended.text().contains(form), "{form} is in\n{}", ended.text());
    }
}

/// The secret is in no argument list and in no file of the state directory.
#[test]
fn secrets_are_not_kept() {
    needs!(Need::Containers);
    let cofferdam = Cofferdam::new().variable("TOKEN", TOKEN);
    cofferdam.script(&["--secret", "TOKEN"], "echo $TOKEN; exit 3").expect(3);
    let found = crate::binary::program("grep")
        .args(["-rlF", TOKEN])
        .arg(cofferdam.state())
        .output()
        .expect("grep");
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}

/// A secret that the caller does not have stops the command, by name.
#[test]
fn secret_that_is_not_set() {
    let ended = Cofferdam::common().script(&["--secret", "NOT_SET"], "echo ran").says(&["NOT_SET"]);
    assert!([2, 125].contains(&ended.status), "status {}", ended.status);
    assert!(!ended.stdout.contains("ran"));
}

/// A secret too short to mask is refused with the reason, and not shown.
#[test]
fn secret_that_is_too_short() {
    let cofferdam = Cofferdam::common().variable("PIN", "7q");
    let ended =
        cofferdam.script(&["--secret", "PIN"], "echo ran").says(&["PIN", "cannot be masked"]);
    assert_ne!(ended.status, 0);
    assert!(!ended.text().contains("7q"));
}

/// More output than the limit is dropped and counted; the command does not notice.
#[test]
fn log_limit() {
    needs!(Need::Containers);
    let ended = Cofferdam::common()
        .script(&["--log-limit", "64KiB"], "echo first; seq 1 500000; echo last >&2; exit 4")
        .expect(4)
        .says(&["first"]);
    assert!(ended.stdout.len() < 256 * 1024, "{} bytes", ended.stdout.len());
}

/// `--json` writes how it ended, by what, and what it used.
#[test]
fn outcome_as_json() {
    needs!(Need::Containers);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("outcome.json");
    let outcome = |flags: &[&str], script: &str| -> Value {
        let flags: Vec<_> = ["--json", path.to_str().expect("a path")]
            .into_iter()
            .chain(flags.iter().copied())
            .collect();
        Cofferdam::common().script(&flags, script);
        let text = std::fs::read_to_string(&path).expect("the outcome");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    };
    let failed = outcome(&[], "exit 7");
    assert_eq!(failed["exit"], 7, "{failed:#}");
    assert_eq!(failed["signal"], Value::Null, "{failed:#}");
    let killed = outcome(&[], "kill -SEGV $$");
    assert_eq!(killed["signal"], 11, "{killed:#}");
    let memory = outcome(&["--memory", "32MiB"], "head -c 200m /dev/zero | tail");
    assert!(memory["cause"].to_string().contains("memory"), "{memory:#}");
    let worked = outcome(&[], "head -c 20m /dev/zero | tail > /dev/null");
    assert!(worked["usage"].is_object(), "{worked:#}");
    let peak = worked["usage"]["memory_peak"].as_u64().expect("peak memory in bytes");
    assert!((20 << 20..1 << 30).contains(&peak), "{worked:#}");
}
