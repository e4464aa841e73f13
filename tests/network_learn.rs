//! `run --learn-network`: what it prints is what the run needs, no more and no less, which a second
//! run with that and nothing else shows. The world is the tests' own.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{
    binary::{Ended, file, wait},
    host::{Need, needs},
    world::{BULK, FIRST, METADATA, PRIVATE, World, with_world},
};

/// Reaches each `HOST PORT`, and fails when one of them is refused.
fn reaches(targets: &[(&str, u16)]) -> Value {
    let each = targets.iter().map(|(host, port)| format!("reach {host} {port}\n"));
    let script = format!(
        "reach() {{ timeout 60 bash -c \"exec 3<>/dev/tcp/$1/$2\" || {{ echo \"$1:$2 is refused\"; \
         exit 1; }}; }}\n{}",
        each.collect::<String>()
    );
    json!({ "name": "reach", "shell": "bash", "run": script })
}

/// Runs `pipeline` in `project`; what it said, and its record.
fn run(world: &World, project: &Path, pipeline: &Value, flags: &[&str]) -> (Ended, Value) {
    let path = file(project, "cofferdam.yml", pipeline.to_string());
    let (path, project) = (path.display().to_string(), project.display().to_string());
    let out = format!("{project}/out");
    let arguments = [&["run", &path, "--workspace", &project, "--out", &out], flags].concat();
    let ended = wait(world.command(&arguments).spawn().expect("start"));
    let record = fs::read(format!("{out}/run.json")).expect("a record");
    (ended, serde_json::from_slice(&record).expect("JSON"))
}

/// The learned network of each place as `network:` in the pipeline, and nothing else is changed.
fn with_learned(pipeline: &Value, record: &Value) -> Value {
    let mut pipeline = pipeline.clone();
    let as_written = |network: &Value| match network["allow"].as_array() {
        Some(list) if list.is_empty() => json!("none"),
        list => json!({ "allow": list }),
    };
    for kind in ["jobs", "images"] {
        for place in record["learned"][kind].as_array().into_iter().flatten() {
            let job = &mut pipeline[kind][place["id"].as_str().expect("an id")];
            if !place["network"].is_null() {
                job["network"] = as_written(&place["network"]);
            }
            for step in place["steps"].as_array().into_iter().flatten() {
                let steps = job["steps"].as_array_mut().expect("steps");
                let own = steps.iter_mut().find(|own| own["name"] == step["name"]);
                own.expect("the step")["network"] = as_written(&step["network"]);
            }
        }
    }
    pipeline
}

/// Full or listed: everything public is reached and recorded, what is private only where the pipeline
/// lists it. Names that share an address are all listed. Jobs without a way out stay without.
#[test]
fn what_a_run_needs() {
    needs!(Need::Networks, Need::Carrier, Need::Containers, Need::Program("unshare"));
    with_world(|world| {
        let project = tempfile::tempdir().expect("a directory");
        let private = format!("{PRIVATE}:80");
        let closed = json!({ "shell": "bash", "run":
            format!("! timeout 60 bash -c 'exec 3<>/dev/tcp/{FIRST}/80'") });
        let pipeline = json!({ "jobs": {
            "full": {
                "network": "full",
                "parallel": 2,
                "steps": [reaches(&[("listed.example", 443), ("two.example", 443), (FIRST, BULK.0)])],
            },
            "some": {
                "network": { "allow": [private, "*.wild.example:443"], "bandwidth": "20Mbit" },
                "steps": [
                    reaches(&[("a.wild.example", 443), (PRIVATE, 80), ("other.example", 80)]),
                    { "shell": "bash", "run":
                        format!("! timeout 60 bash -c 'exec 3<>/dev/tcp/{METADATA}/80'") },
                ],
            },
            "quiet": { "network": "full", "steps": [{ "run": "true" }] },
            "alone": { "network": "none", "steps": [closed] },
            "never": { "network": "full", "if": "false", "steps": [{ "run": "true" }] },
        }});
        let (ended, record) = run(world, project.path(), &pipeline, &["--learn-network"]);
        let ended = ended.expect(0);
        let (start, printed) = ended.stdout.split_once("\n\n# What").expect("a list");
        assert!(start.contains("run.json"), "it comes last\n{}", ended.text());
        insta::assert_snapshot!(format!("# What{printed}"), @r"
        # What this run has reached, as the `network` of each place.
        jobs:
          full:
            network:
              allow:
                - 192.0.2.10:81
                - listed.example:443
                - two.example:443
          some:
            # refused: private or this host; list it by address: 169.254.169.254:80
            network:
              allow:
                - 10.99.0.1:80
                - a.wild.example:443
                - other.example:80
              bandwidth: 20Mbit
          quiet:
            network: none
          never:
            # Nothing ran in its network, so nothing was learnt.
        # The same as one list for all of them.
        defaults:
          network:
            allow:
              - 10.99.0.1:80
              - 192.0.2.10:81
              - a.wild.example:443
              - listed.example:443
              - other.example:80
              - two.example:443
        ");
        let learned = with_learned(&pipeline, &record);
        let (ended, record) = run(world, project.path(), &learned, &[]);
        ended.expect(0);
        assert!(record["learned"].is_null());

        // One entry less is one refusal.
        let mut less = learned;
        less["jobs"]["full"]["network"]["allow"].as_array_mut().expect("a list").pop();
        run(world, project.path(), &less, &["--job", "full"]).0.expect(1);
    });
}

/// What a step reaches by its own network is the step's, and the job's is told apart.
#[test]
fn networks_of_steps_and_images() {
    needs!(Need::Networks, Need::Root, Need::Containers, Need::Program("unshare"));
    with_world(|world| {
        let project = tempfile::tempdir().expect("a directory");
        let mut install = reaches(&[("listed.example", 80)]);
        install["name"] = "install".into();
        install["network"] = "full".into();
        let pipeline = json!({
            "images": { "tools": {
                "from": "host",
                "network": "full",
                "steps": [reaches(&[(FIRST, 443)]), { "run": "touch /tool" }],
            }},
            "jobs": {
                "build": {
                    "image": "tools",
                    "network": { "allow": ["other.example:443"] },
                    "steps": [
                        reaches(&[("other.example", 443)]),
                        install,
                        reaches(&[("other.example", 80)]),
                    ],
                },
                "test": {
                    "network": "none",
                    "steps": [{ "name": "fetch", "network": "full", "run": "true" }],
                },
            },
        });
        let (ended, record) = run(world, project.path(), &pipeline, &["--learn-network", "--json"]);
        let ended = ended.expect(0);
        let printed: Value = serde_json::from_str(&ended.stdout).expect("only JSON");
        assert_eq!(printed["learned"], record["learned"]);
        insta::assert_snapshot!(
            serde_json::to_string_pretty(&record["learned"]).expect("JSON"), @r#"
        {
          "jobs": [
            {
              "id": "build",
              "network": {
                "was_used": true,
                "allow": [
                  "other.example:443",
                  "other.example:80"
                ]
              },
              "steps": [
                {
                  "name": "install",
                  "network": {
                    "was_used": true,
                    "allow": [
                      "listed.example:80"
                    ]
                  }
                }
              ]
            },
            {
              "id": "test",
              "steps": [
                {
                  "name": "fetch",
                  "network": {
                    "was_used": true,
                    "allow": []
                  }
                }
              ]
            }
          ],
          "images": [
            {
              "id": "tools",
              "network": {
                "was_used": true,
                "allow": [
                  "192.0.2.10:443"
                ]
              }
            }
          ],
          "allow": [
            "192.0.2.10:443",
            "listed.example:80",
            "other.example:443",
            "other.example:80"
          ]
        }
        "#);
        let steps = &record["jobs"]
            .as_array()
            .expect("jobs")
            .iter()
            .find(|job| job["id"] == "build")
            .expect("the job")["attempts"][0];
        assert_eq!(steps["steps"][1]["network"]["reached"][0]["host"], "listed.example");
        let reached = steps["network"]["reached"].as_array().expect("all of it");
        assert_eq!(reached.len(), 3, "{reached:?}");

        let learned = with_learned(&pipeline, &record);
        run(world, project.path(), &learned, &[]).0.expect(0);
    });
}
