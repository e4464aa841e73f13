//! What a pipeline expands to, for what the caller chose.

#![expect(clippy::unwrap_used, reason = "the helpers of tests may panic as tests do")]

use std::{fmt::Write as _, time::Duration};

use cofferdam_jobs::{
    Inputs, Plan, Sources, diagnostic::render::render_all, model::Command, parse, plan,
    plan::Feature,
};

/// The plan of a pipeline, or what is wrong with it.
fn planned(yaml: &str, inputs: &Inputs) -> Result<Plan, String> {
    let mut sources = Sources::new();
    let file = sources.add("cofferdam.yml", yaml.as_bytes());
    let parsed = parse(&sources, file);
    let shown = render_all(&parsed.diagnostics, &sources, false);
    let pipeline = parsed.pipeline.ok_or(shown)?;
    plan(&pipeline, inputs).map_err(|faults| render_all(&faults, &sources, false))
}

/// One line per job.
fn table(yaml: &str, inputs: &Inputs) -> String {
    let plan = match planned(yaml, inputs) {
        Ok(plan) => plan,
        Err(faults) => return faults,
    };
    let mut out = String::new();
    for job in &plan.jobs {
        let group = plan.group(job.group).unwrap();
        let needs: Vec<&str> =
            group.needs.iter().map(|need| plan.group(need.group).unwrap().id.as_str()).collect();
        let image = job.image.as_deref().unwrap_or("-");
        let weight = group.weight.as_secs();
        let _ = writeln!(
            out,
            "{} | {} | {}/{} | image {image} | needs {needs:?} | weight {weight} | {:?}",
            job.id, job.name, job.index, job.total, job.timeout
        );
    }
    out
}

fn inputs(jobs: &[&str], params: &[(&str, &str)]) -> Inputs {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Inputs {
        jobs: jobs.iter().map(|job| (*job).to_owned()).collect(),
        params: params.iter().map(owned).collect(),
        ..Inputs::default()
    }
}

const PIPELINE: &str = r#"
params:
  profile: { default: debug, options: [debug, release] }
  tag: {}
defaults: { image: "debian:${{ params.tag }}", timeout: 5m }
jobs:
  report: { needs: [test, lint], steps: [{ run: x }] }
  test:
    needs: build
    matrix: { python: [3.9, 3.10], os: [a, b], exclude: [{ os: b, python: 3.9 }], include: [{ os: b, extra: x }, { os: c, python: 3.12 }] }
    image: "python:${{ matrix.python }}"
    steps: [{ run: x }]
  build: { image: host, timeout: 1h, steps: [{ run: x }] }
  lint: { parallel: 2, name: "lint with ${{ params.profile }}", steps: [{ run: x }] }
  named: { matrix: { n: [1, 2] }, name: "number ${{ matrix.n }}", steps: [{ run: x }] }
  child: { from: build, steps: [{ run: x }] }
"#;

#[test]
fn tables() {
    let tag = ("tag", "12");
    let cases = [
        ("everything", inputs(&[], &[tag])),
        ("one job with what it needs", inputs(&["test"], &[tag])),
        ("one of a matrix, by name", inputs(&["test (3.10, a)"], &[tag])),
        ("one of a matrix, by id", inputs(&["lint~2"], &[tag])),
        ("one of a matrix, and what needs all of it", inputs(&["lint~2", "report"], &[tag])),
        ("no such job", inputs(&["tset", "test (4.0, a)"], &[tag])),
        ("no value for a parameter", inputs(&[], &[])),
        ("not an option", inputs(&[], &[tag, ("profile", "relaese")])),
        ("no image", inputs(&[], &[("tag", "../12")])),
        ("no such parameter", inputs(&[], &[tag, ("profil", "debug")])),
    ];
    let mut out = String::new();
    for (title, inputs) in cases {
        let _ = writeln!(out, "## {title}\n{}", table(PIPELINE, &inputs).trim_end());
    }
    insta::assert_snapshot!(out);
}

#[test]
fn what_took_long_before_has_weight() {
    let mut inputs = inputs(&[], &[("tag", "12")]);
    inputs.expected = [("build".to_owned(), Duration::from_secs(1000))].into();
    let plan = planned(PIPELINE, &inputs).unwrap();
    let weight = |id: &str| plan.groups.iter().find(|group| group.id == id).unwrap().weight;
    assert_eq!(weight("build"), Duration::from_secs(1120));
    assert_eq!(weight("report"), Duration::from_secs(60));
}

#[test]
fn the_same_inputs_give_the_same_plan() {
    let inputs = inputs(&[], &[("tag", "12")]);
    assert_eq!(planned(PIPELINE, &inputs), planned(PIPELINE, &inputs));
}

#[test]
fn what_a_runner_cannot_do_is_refused_where_it_is_asked_for() {
    let yaml = "images: { own: { build: { context: . } } }\n\
                jobs:\n  a: { image: own, network: full, limits: { io: 1MiB/s }, services: { db: { image: x } }, workspace: git, steps: [{ run: x, background: true }] }\n  \
                b: { from: a, cache: [{ key: k, paths: [p] }], steps: [{ run: x, image: y, limits: { pids: 1 }, network: none }] }\n";
    let mut sources = Sources::new();
    let file = sources.add("cofferdam.yml", yaml.as_bytes());
    let plan = plan(&parse(&sources, file).pipeline.unwrap(), &Inputs::default()).unwrap();
    let faults = plan.unsupported(&[Feature::Background, Feature::WorkspaceGit]);
    insta::assert_snapshot!(render_all(&faults, &sources, false));
    let all: Vec<Feature> = plan.features().into_iter().map(|(feature, _)| feature).collect();
    assert_eq!(plan.unsupported(&all), []);
}

#[test]
fn digests_are_asked_for_once() {
    let yaml = "jobs: { a: { cache: [{ key: \"k-${{ hash('a', 'b/**') }}\", paths: [p] }], \
                steps: [{ env: { H: \"${{ hash('a', 'b/**') }}\" }, if: \"hash('c') != ''\", run: x }] } }";
    let plan = planned(yaml, &Inputs::default()).unwrap();
    let hashes: Vec<Vec<String>> = plan.hashes().into_iter().collect();
    assert_eq!(hashes, [vec!["a".to_owned(), "b/**".to_owned()], vec!["c".to_owned()]]);
}

/// The operator's defaults hold where the pipeline is silent; what is asked above a ceiling is
/// refused with its place, in services and steps as well; a default above a ceiling is cut.
#[test]
fn what_the_operator_decides() {
    let operator = |text: &str| {
        let mut sources = Sources::new();
        let file = sources.add("config.yml", text.as_bytes());
        let configuration = cofferdam_jobs::configuration::parse(&sources, file).unwrap();
        let (defaults, ceilings) = (configuration.defaults, configuration.ceilings);
        Inputs { defaults, ceilings, ..Inputs::default() }
    };
    let inputs = operator(
        "defaults: { limits: { memory: 3GiB, pids: 900 }, timeout: 20m }\n\
         ceilings: { limits: { pids: 600, cpus: 2 }, timeout: 10m }",
    );
    let planned = |text: &str| {
        let mut sources = Sources::new();
        let file = sources.add("cofferdam.yml", text.as_bytes());
        let pipeline = parse(&sources, file).pipeline.unwrap();
        plan(&pipeline, &inputs).map_err(|faults| render_all(&faults, &sources, false))
    };
    let plan = planned("jobs: { a: { limits: { memory: 8GiB }, steps: [{ run: x }] } }").unwrap();
    let job = &plan.jobs[0];
    let value = |limit: &Option<cofferdam_jobs::Spanned<u64>>| limit.as_ref().unwrap().value;
    assert_eq!((value(&job.limits.memory), value(&job.limits.pids)), (8 << 30, 600));
    assert_eq!(job.timeout, Duration::from_secs(600));
    insta::assert_snapshot!(
        planned(
            "defaults: { timeout: 11m }\n\
             jobs:\n  \
               a: { limits: { cpus: 2.5 }, steps: [{ run: x, limits: { pids: 601 } }] }\n  \
               b: { timeout: 10m, services: { db: { image: x, limits: { pids: 1k } } }, steps: [{ run: x }] }"
        )
        .unwrap_err()
    );
}

/// A rate for one way does not lift what is said of the other, least of all a ceiling.
#[test]
fn rates_are_held_each_by_itself() {
    let mut sources = Sources::new();
    let operator = "ceilings: { limits: { io: { read: 9MiB/s, write: 9MiB/s } } }";
    let file = sources.add("config.yml", operator.as_bytes());
    let ceilings = cofferdam_jobs::configuration::parse(&sources, file).unwrap().ceilings;
    let text = "defaults: { limits: { io: { write: 2MiB/s } } }\n\
                jobs: { a: { limits: { io: { read: 1MiB/s } }, steps: [{ run: x }],\n  \
                services: { db: { image: x, limits: { io: { read: 3MiB/s } } } } } }";
    let file = sources.add("cofferdam.yml", text.as_bytes());
    let pipeline = parse(&sources, file).pipeline.unwrap();
    let inputs = Inputs { ceilings, ..Inputs::default() };
    let plan = plan(&pipeline, &inputs).unwrap();
    let job = &plan.jobs[0];
    let rates = [&job.limits, &job.services[0].limits].map(|limits| {
        let io = limits.io.as_ref().unwrap().value;
        (io.read, io.write)
    });
    assert_eq!(rates, [1, 3].map(|read| (Some(read << 20), Some(2 << 20))));
}

/// Its jobs may need some that are in the other file, which nothing would wait for.
#[test]
fn a_file_is_planned_only_with_what_it_includes() {
    let yaml = "include: [b.yml]\njobs: { a: { needs: b, steps: [{ run: x }] } }";
    insta::assert_snapshot!(planned(yaml, &Inputs::default()).unwrap_err(), @r"
    error[E0308]: what this file includes has not been read
     --> cofferdam.yml:1:11
      |
    1 | include: [b.yml]
      |           ^^^^^
      |
      = help: read it together with the files that it includes
    ");
}

/// Images come before what uses them, each after the one that it starts from; those that no chosen
/// job uses are left out.
#[test]
fn images_are_planned_as_jobs() {
    let yaml = "images:\n\
                \x20 unused: { from: host, steps: [{ run: x }] }\n\
                \x20 over: { from: tool, steps: [{ run: x }], timeout: 1h }\n\
                \x20 tool: { from: \"debian:${{ params.tag }}\", steps: [{ run: x }, { run: y }] }\n\
                \x20 other: { from: host, config: { user: \"1000\" } }\n\
                params: { tag: { default: 12 } }\n\
                jobs:\n\
                \x20 a: { image: over, steps: [{ run: x }] }\n\
                \x20 b: { needs: a, steps: [{ run: x, image: other }], services: { db: { image: tool } } }\n";
    insta::assert_snapshot!(table(yaml, &Inputs::default()));
    insta::assert_snapshot!(table(yaml, &inputs(&["a"], &[("tag", "13")])));
}

/// `build` in its two forms, and what of the caller goes into it.
#[test]
fn a_dockerfile_is_planned_as_the_first_step() {
    let check = |build: &str, command: &str, expect: &str| {
        let yaml = format!(
            "images: {{ tool: {{ build: {build}, steps: [{{ run: x }}] }} }}\n\
             params: {{ tag: {{ default: 12 }} }}\n\
             jobs: {{ a: {{ image: tool, steps: [{{ run: x }}] }} }}\n"
        );
        let plan = planned(&yaml, &Inputs::default()).unwrap();
        let job = &plan.jobs[0];
        assert_eq!((job.source.steps.len(), &job.image), (2, &None), "{build}");
        let Command::Exec(words) = &job.source.steps[0].command else { panic!("{build}") };
        let words: Vec<&str> = words.iter().filter_map(|word| word.as_literal()).collect();
        assert_eq!(words.join(" "), command);
        let file = job.build.as_ref().and_then(|build| build.dockerfile.as_ref()).unwrap();
        let found =
            format!("{} {} {:?} {:?}", file.context, file.dockerfile, file.target, file.args);
        assert_eq!(found, expect, "{build}");
    };
    check("image", "cofferdam image build --file Dockerfile image", "image Dockerfile None []");
    check(
        "{ context: image }",
        "cofferdam image build --file Dockerfile image",
        "image Dockerfile None []",
    );
    check(
        "{ dockerfile: a/b, target: t, args: { A: \"v${{ params.tag }}\", B: 1 } }",
        "cofferdam image build --file a/b --target t .",
        r#". a/b Some("t") [("A", "v12"), ("B", "1")]"#,
    );
}

/// What the context `git` does not have is empty.
#[test]
fn git_has_all_its_names() {
    let yaml = "jobs: { a: { name: \"${{ default(git.tag, 'none') }} ${{ git.branch == '' }}\", steps: [{ run: x }] } }";
    let name = |inputs: &Inputs| planned(yaml, inputs).unwrap().jobs[0].name.clone();
    assert_eq!(name(&Inputs::default()), "none true");
    let git = [("tag", "v1"), ("branch", "main")];
    let git = git.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    assert_eq!(name(&Inputs { git, ..Inputs::default() }), "v1 false");
}
