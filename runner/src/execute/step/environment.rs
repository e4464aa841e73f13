//! The environment of a step: what the image sets, what Cofferdam tells, what the pipeline sets.
//!
//! Nothing of the caller's own environment is in it. Later layers win, but the names that
//! Cofferdam tells its own facts by cannot be changed by an image or a pipeline.

use cofferdam_jobs::state::EnvVar;

use super::files::StepFiles;
use crate::supervise::PATH;

/// What a step is told about itself.
#[derive(Clone, Debug)]
pub(crate) struct Facts<'a> {
    /// The run's id.
    pub(crate) run: &'a str,
    /// The job's name, as the file says it.
    pub(crate) job: &'a str,
    /// The step's id or name.
    pub(crate) step: &'a str,
    /// Which try, from 1.
    pub(crate) attempt: u32,
    /// Which of its matrix or `parallel`, from 1.
    pub(crate) index: u32,
    /// How many there are of them.
    pub(crate) total: u32,
}

/// Puts the layers together.
pub(crate) fn environment(
    image: &[(String, String)],
    facts: &Facts<'_>,
    files: &StepFiles,
    pipeline: &[EnvVar],
) -> Vec<(String, String)> {
    let mut env = Layers::of(&[("PATH", PATH), ("TMPDIR", "/tmp")], image, pipeline);
    env.set("COFFERDAM_RUN", facts.run);
    env.set("COFFERDAM_JOB", facts.job);
    env.set("COFFERDAM_STEP", facts.step);
    env.set("COFFERDAM_ATTEMPT", &facts.attempt.to_string());
    env.set("COFFERDAM_INDEX", &facts.index.to_string());
    env.set("COFFERDAM_TOTAL", &facts.total.to_string());
    env.set("COFFERDAM_WORKSPACE", cofferdam_sandbox::WORKSPACE);
    for (name, path) in files.variables() {
        env.set(&name, &path);
    }
    env.0
}

/// The environment of a service.
pub(crate) fn of_service(image: &[(String, String)], pipeline: &[EnvVar]) -> Vec<(String, String)> {
    Layers::of(&[("PATH", PATH)], image, pipeline).0
}

#[derive(Debug, Default)]
struct Layers(Vec<(String, String)>);

impl Layers {
    /// What steps and services have alike, each over the one before.
    fn of(defaults: &[(&str, &str)], image: &[(String, String)], pipeline: &[EnvVar]) -> Self {
        let mut env = Self::default();
        for (name, value) in defaults {
            env.set(name, value);
        }
        for (name, value) in image {
            env.set(name, value);
        }
        for variable in pipeline {
            env.set(&variable.name, &variable.value);
        }
        env.set("CI", "true");
        env.set("COFFERDAM", "true");
        env
    }

    fn set(&mut self, name: &str, value: &str) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.0.push((name.to_owned(), value.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_layers_win_and_facts_cannot_be_changed() {
        let facts = Facts { run: "r", job: "build", step: "make", attempt: 2, index: 1, total: 4 };
        let image = [("PATH", "/opt/bin"), ("A", "image"), ("COFFERDAM_JOB", "forged")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let pipeline = [("A", "pipeline"), ("CI", "false")].map(|(name, value)| EnvVar {
            name: name.to_owned(),
            value: value.to_owned(),
            secret: false,
        });
        let env = environment(&image, &facts, &StepFiles::new(3), &pipeline);
        let get = |name: &str| {
            let mut found = env.iter().filter(|(known, _)| known == name);
            let value = found.next().map(|(_, value)| value.as_str());
            assert!(found.next().is_none(), "`{name}` is there twice");
            value
        };
        for (name, value) in [
            ("PATH", "/opt/bin"),
            ("A", "pipeline"),
            ("CI", "true"),
            ("COFFERDAM_JOB", "build"),
            ("COFFERDAM_ATTEMPT", "2"),
            ("COFFERDAM_OUTPUT", "/run/cofferdam/3/output"),
            ("TMPDIR", "/tmp"),
        ] {
            assert_eq!(get(name), Some(value), "{name}");
        }
        assert_eq!(get("HOME"), None, "the user's entry in the image decides");
    }
}
