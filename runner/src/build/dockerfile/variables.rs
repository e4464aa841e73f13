//! The variables that a stage knows, instruction by instruction.

use std::{collections::BTreeMap, sync::Arc};

use cofferdam_jobs::{
    diagnostic::Report,
    dockerfile::{Argument, Request, Scope, Word, is_predefined, too_many_variables},
};

/// What all stages of a file have in common.
#[derive(Clone, Debug)]
pub(super) struct Arguments {
    /// What the caller gives.
    pub(super) arguments: BTreeMap<String, String>,
    /// What the file gives before its first stage, and what every file knows about platforms.
    pub(super) defaults: BTreeMap<String, String>,
}

impl Arguments {
    pub(super) fn new(request: &Request, of_file: &BTreeMap<String, String>) -> Self {
        let mut defaults: BTreeMap<_, _> = request.platform_arguments().into_iter().collect();
        defaults.extend(of_file.iter().map(|(name, value)| (name.clone(), value.clone())));
        Self { arguments: request.arguments.clone(), defaults }
    }

    /// Values that need no `ARG`, for programs only.
    pub(super) fn predefined(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.arguments.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        all.filter(|(name, _)| is_predefined(name))
    }
}

/// The variables of one stage.
#[derive(Clone, Debug)]
pub(super) struct Variables {
    given: Arc<Arguments>,
    scope: Scope,
    /// In the order of the file.
    arguments: Vec<(String, String)>,
}

impl Variables {
    /// Those that a stage begins with: its image's, and what the stage that it is based on declared.
    pub(super) fn new(
        given: &Arc<Arguments>,
        escape: char,
        environment: &[(String, String)],
        inherited: &[(String, String)],
    ) -> Self {
        let mut scope = Scope::new(escape);
        for (name, value) in environment {
            scope.set_environment(name, value);
        }
        for (name, value) in inherited {
            scope.set_argument(name, value);
        }
        Self { given: Arc::clone(given), scope, arguments: inherited.to_vec() }
    }

    pub(super) fn expand(&self, word: &Word, report: &mut Report) -> Option<String> {
        self.scope.expand(word, report)
    }

    pub(super) fn all(&self, words: &[Word], report: &mut Report) -> Option<Vec<String>> {
        let expanded: Vec<_> = words.iter().map(|word| self.expand(word, report)).collect();
        expanded.into_iter().collect()
    }

    /// `ARG`
    pub(super) fn declare(&mut self, arguments: &[Argument], report: &mut Report) -> Option<()> {
        for argument in arguments {
            let name = &argument.name.value;
            let value = match (self.given.arguments.get(name), &argument.default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => Some(self.expand(default, report)?),
                (None, None) => self.given.defaults.get(name).cloned(),
            };
            let Some(value) = value else { continue };
            if !self.scope.set_argument(name, &value) {
                report.push(too_many_variables(argument.name.span));
                return None;
            }
            self.arguments.retain(|(known, _)| known != name);
            self.arguments.push((name.clone(), value));
        }
        Some(())
    }

    /// `ENV`
    pub(super) fn set(
        &mut self,
        name: &str,
        value: &str,
        word: &Word,
        report: &mut Report,
    ) -> Option<()> {
        if self.scope.set_environment(name, value) {
            return Some(());
        }
        report.push(too_many_variables(word.span));
        None
    }

    /// What stages that are based on this one know as well.
    pub(super) fn inherited(&self) -> &[(String, String)] {
        &self.arguments
    }

    /// The variables that programs have beside the image's.
    pub(super) fn for_programs(&self) -> Vec<(String, String)> {
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        self.given.predefined().chain(self.scope.arguments()).map(own).collect()
    }
}
