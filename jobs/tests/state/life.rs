//! Jobs and steps from start to end, and all that can come between.

use crate::transcript::check;

check! {
    one_job_from_start_to_end:
        "jobs: { a: { steps: [{ run: one }, { exec: [two, 'x y'], timeout: 5s }], artifacts: { paths: [out] }, results: { junit: ['*.xml'] } } }",
        "up a; end a 0 0; end a 1 0; down a";
    a_failed_step_skips_the_rest_and_what_needs_it:
        "jobs: { a: { steps: [{ run: one }, { run: two }, { run: three, if: failure() }], artifacts: [{ paths: [x] }, { paths: [core], when: failure }] }, b: { needs: a, steps: [{ run: x }] }, c: { needs: b, steps: [{ run: x }] }, d: { needs: c, if: failure(), steps: [{ run: x }] }, e: { needs: a, if: success(), steps: [{ run: x }] } }",
        "up a; end a 0 3; end a 2 0; down a; up d; end d 0 0; down d";
    an_allowed_failure_is_none:
        "jobs: { a: { allow-failure: [3], steps: [{ run: one }] }, b: { needs: a, steps: [{ run: 'echo ${{ needs.a.result }}' }] } }",
        "up a; end a 0 3; down a; up b; end b 0 0; down b";
    another_code_is_not_allowed:
        "jobs: { a: { allow-failure: [3], steps: [{ run: one }] } }",
        "up a; end a 0 4; down a";
    outputs_reach_later_steps_and_jobs:
        "jobs: { a: { steps: [{ id: v, run: one }, { run: two, env: { N: '${{ steps.v.outputs.n }}' } }], outputs: { n: 'v${{ steps.v.outputs.n }}' } }, b: { needs: a, steps: [{ run: x, env: { N: '${{ needs.a.outputs.n }}' } }] } }",
        "up a; end a 0 0 n=7; end a 1 0; down a; up b; end b 0 0; down b";
    env_layers_and_secrets:
        "env: { A: top, B: top }\nsecrets: [TOKEN, OTHER]\njobs: { a: { secrets: [TOKEN, { name: OTHER, as: file }], env: { B: 'job-${{ env.A }}', C: 'x${{ secrets.TOKEN }}' }, steps: [{ run: one, env: { A: step } }, { run: two }] } }",
        "up a; end a 0 0 LATE=s3cr3t-value!; end a 1 0; down a";
    a_secret_never_becomes_part_of_a_command:
        "secrets: [TOKEN]\njobs: { a: { env: { T: '${{ secrets.TOKEN }}' }, steps: [{ run: 'echo ${{ env.T }}' }] } }",
        "up a; down a";
    a_step_that_takes_too_long:
        "jobs: { a: { steps: [{ run: one, timeout: 5s }, { run: two }], cleanup: [{ run: clean }] } }",
        "up a; timeout a 0; end a 0 143; end a c0 0; down a";
    a_job_that_takes_too_long:
        "jobs: { a: { timeout: 1m, steps: [{ run: one }, { run: two, if: always() }], cleanup: [{ run: clean }, { run: more }] } }",
        "up a; timeout a; end a 0 0; end a c0 1; end a c1 0; down a";
    cleanup_has_its_own_time:
        "jobs: { a: { steps: [{ run: one }], cleanup: [{ run: clean }, { run: more }] } }",
        "up a; end a 0 0; cleanup-timeout a; end a c0 143; down a";
    a_cancel_runs_cleanup_and_nothing_else:
        "jobs: { a: { steps: [{ run: one }, { run: two, if: always() }], cleanup: [{ run: clean }] }, b: { needs: a, if: always(), steps: [{ run: x }] }, c: { steps: [{ run: x }] } }",
        "up a; cancel; up c; end a 0 143; end a c0 0; down a; down c";
    a_second_cancel_kills:
        "jobs: { a: { steps: [{ run: one }], cleanup: [{ run: clean }], artifacts: { paths: [x], when: always } }, b: { steps: [{ run: x }], cleanup: [{ run: clean }] } }",
        "up a; up b; cancel; end b 0 143; kill; end a 0 137; end b c0 137; down a; down b";
    fail_fast_cancels_the_rest_of_the_matrix:
        "jobs: { m: { matrix: { n: [1, 2, 3] }, max-parallel: 2, fail-fast: true, steps: [{ run: 'run ${{ matrix.n }}' }] }, other: { steps: [{ run: x }] } }",
        "up m~1; up m~2; up other; end m~1 0 1; down m~1; end m~2 0 143; down m~2; end other 0 0; down other";
    retry_by_cause_keeps_every_try:
        "jobs: { a: { retry: { max: 2, on: [memory, 'exit:7'], backoff: 10s }, steps: [{ run: one }] } }",
        "up a; oom a 0; down a; retry a; up a; end a 0 7; down a; retry a; up a; end a 0 0; down a";
    retry_ends_with_its_count_and_its_causes:
        "jobs: { a: { retry: { max: 1, on: system }, steps: [{ run: one }] }, b: { retry: { max: 3, on: system }, steps: [{ run: one }] } }",
        "lost a; retry a; up a; broken a 0; down a; up b; end b 0 1; down b";
    a_cancel_ends_the_wait_for_another_try:
        "jobs: { a: { retry: { max: 1 }, steps: [{ run: one }] } }",
        "up a; end a 0 1; down a; cancel; retry a";
    a_job_that_cannot_start:
        "jobs: { a: { steps: [{ run: one }] }, b: { needs: a, steps: [{ run: x }] } }",
        "nostart a";
    files_that_are_missing_fail_the_job:
        "jobs: { a: { steps: [{ run: one }], artifacts: { paths: [x] } } }",
        "up a; end a 0 0; missing a";
    continue_on_error_shows_the_outcome:
        "jobs: { a: { steps: [{ id: s, run: one, continue-on-error: true }, { run: two, if: \"steps.s.outcome == 'failed' && steps.s.conclusion == 'passed'\" }] } }",
        "up a; end a 0 5; end a 1 0; down a";
    a_service_that_ends_stops_its_job:
        "secrets: [TOKEN]\njobs: { a: { services: { db: { image: x, env: { P: '${{ secrets.TOKEN }}' } } }, steps: [{ run: one }, { run: two }], cleanup: [{ run: sweep }] } }",
        "up a; service a; end a 0 143; end a c0 0; down a";
    a_cancel_gives_up_what_is_being_put_up:
        "jobs: { a: { steps: [{ run: one }] } }",
        "cancel; nostart a";
    a_background_step_that_ends_before_it_is_ready_has_failed:
        "jobs: { a: { steps: [{ run: server, background: true, ready: { run: probe } }, { run: test }] } }",
        "up a; end a 0 0; down a";
    secrets_as_files_go_to_the_steps_that_see_them:
        "secrets: [TOKEN]\njobs: { a: { secrets: [{ name: TOKEN, as: file }], steps: [{ run: one }] }, b: { steps: [{ run: one, secrets: [{ name: TOKEN, as: file }] }, { run: two }] } }",
        "up a; up b; end b 0 0";
    background_steps_stay_up_until_the_last_step_ended:
        "jobs: { a: { steps: [{ run: server, background: true, ready: { run: probe } }, { run: other, background: true }, { run: test }] } }",
        "up a; ready a 0; end a 2 0; end a 1 143; end a 0 143; down a";
    a_background_step_that_does_not_get_ready:
        "jobs: { a: { steps: [{ run: server, background: true, ready: { run: probe } }, { run: test }] } }",
        "up a; unready a 0; end a 0 143; down a";
    a_background_step_that_ends_early_fails_its_job:
        "jobs: { a: { steps: [{ run: server, background: true }, { run: test }, { run: more }] } }",
        "up a; end a 0 1; end a 1 0; down a";
    conditions_of_jobs:
        "params: { deploy: { default: 'no' } }\njobs: { a: { if: \"params.deploy == 'yes'\", steps: [{ run: x }] }, b: { if: '${{ true }}', steps: [{ run: x }] }, c: { if: \"contains(fromJSON('['), 1)\", steps: [{ run: x }] }, d: { needs: a, if: always(), steps: [{ run: 'was ${{ needs.a.result }}' }] } }",
        "up b; end b 0 0; down b; up d; end d 0 0; down d";
    the_longest_way_to_the_end_starts_first:
        "jobs: { short: { steps: [{ run: x }] }, long: { steps: [{ run: x }] }, after: { needs: long, steps: [{ run: x }] } }",
        "";
    events_that_do_not_fit_change_nothing:
        "jobs: { a: { steps: [{ run: one }] } }",
        "down a; end a 0 0; timeout a; up a; up a; ready a 0; end a 0 0; end a 0 1; timeout a; down a; down a; cancel; kill";
}
