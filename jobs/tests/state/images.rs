//! Images that the pipeline makes, for the jobs that use them.

use crate::transcript::check;

check! {
    a_failed_image_fails_what_uses_it:
        "env: { A: b }\nimages: { over: { from: tool, steps: [{ run: x }] }, tool: { from: host, steps: [{ run: one }, { run: two, env: { C: d } }] } }\njobs: { a: { image: over, if: always(), steps: [{ run: x }] }, b: { image: tool, if: 'false', steps: [{ run: x }] }, c: { needs: a, steps: [{ run: x }] }, d: { steps: [{ run: '${{ needs }}' }] } }",
        "up image~tool; end image~tool 0 0; end image~tool 1 3; down image~tool; up d; end d 0 0; down d";
    images_of_skipped_jobs_are_not_made:
        "images: { over: { from: tool, steps: [{ run: x }] }, tool: { from: host, steps: [{ run: x }] } }\njobs: { a: { steps: [{ run: x }], outputs: { n: '1' } }, b: { needs: a, if: 'needs.a.outputs.n == 2', image: over, steps: [{ run: x }] }, c: { needs: b, image: tool, if: 'false', steps: [{ run: x }] } }",
        "up a; end a 0 0; down a";
    images_of_jobs_that_run_are_made:
        "images: { over: { from: tool, steps: [{ run: x }] }, tool: { from: host, steps: [{ run: x }] } }\njobs: { a: { steps: [{ run: x }], outputs: { n: '2' } }, b: { needs: a, if: 'needs.a.outputs.n == 2', image: over, steps: [{ run: x }] }, c: { needs: b, image: tool, if: 'false', steps: [{ run: x }] } }",
        "up a; end a 0 0; down a; up image~tool; end image~tool 0 0; down image~tool; up image~over; end image~over 0 0; down image~over; up b; end b 0 0; down b";
    an_image_that_nobody_waits_for_ends_with_a_cancel:
        "images: { tool: { from: host, steps: [{ run: x }] } }\njobs: { a: { steps: [{ run: x }] }, b: { needs: a, if: always(), image: tool, steps: [{ run: x }] } }",
        "up a; cancel; end a 0 143; down a";
    a_made_image_lets_go_of_those_that_wait:
        "images: { tool: { from: host, steps: [{ run: one, network: full }] } }\njobs: { a: { image: tool, steps: [{ run: x }] } }",
        "up image~tool; end image~tool 0 0; down image~tool; up a; end a 0 0; down a";
}
