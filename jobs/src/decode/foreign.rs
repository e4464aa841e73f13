//! Keys that other CI systems have, and what says the same here.

/// What to write in place of a key of GitHub Actions or GitLab CI.
pub(super) fn equivalent(key: &str) -> Option<&'static str> {
    Some(match key {
        "runs-on" | "container" => "say what the job starts from with `image`",
        "script" | "before_script" => "commands are steps: `steps: [{ run: … }]`",
        "after_script" | "post" => "what always runs at the end goes to `cleanup`",
        "uses" => "there are no actions: write what it does as `run`, or put it into an image",
        "with" => "there are no actions: hand values over with `env`",
        "strategy" => "write `matrix`, `fail-fast` and `max-parallel` directly in the job",
        "stage" | "stages" => "order jobs with `needs`",
        "dependencies" => "write `needs: [{ job: NAME, artifacts: true }]`",
        "allow_failure" | "continue-on-error" => {
            "a job has `allow-failure`, a step `continue-on-error`"
        }
        "timeout-minutes" => "write `timeout: 15m`",
        "working-directory" => "write `workdir`",
        "variables" => "write `env`",
        "rules" | "only" | "except" | "when" => "write an expression in `if`",
        "on" | "workflow" | "concurrency" | "permissions" => {
            "a pipeline does not say what starts it: that is for the caller"
        }
        "inputs" => "what the caller chooses is under `params`",
        "volumes" | "privileged" | "options" => {
            "only the operator can widen what a job sees, never the pipeline"
        }
        _ => return None,
    })
}
