//! What a build would do with each instruction of a Dockerfile that makes a layer.
//!
//! The stages are gone through as when they are built, as far as all before was kept; nothing runs.

use std::{collections::HashMap, path::Path, sync::Arc};

use cofferdam_jobs::dockerfile::{Base, CopyFrom, Instruction as Line, Kind, Selected, Selection};
use cofferdam_sandbox::{
    image::{Image, Store},
    with_causes,
};

use super::{
    Project, Request,
    drive::{Given, takes_from, wanted},
    lower::Lowering,
    progress::shortened,
    stage::{label, name_of, triggers},
    variables::Variables,
};
use crate::build::{Forecast, Lookup};

/// What becomes of a Dockerfile.
#[derive(Debug)]
pub(crate) struct Foreseen {
    /// Of the instructions that make a layer, by what the output calls them.
    pub(crate) instructions: Vec<(String, Forecast)>,
    /// The image, where all of it is kept.
    pub(crate) image: Option<Lookup>,
}

/// A stage of which all is kept.
struct Made {
    lookup: Lookup,
    arguments: Vec<(String, String)>,
}

/// Looks the selected stages up in the store below `state`.
pub(crate) fn forecast(
    state: &Path,
    project: Project,
    selection: &Selection,
    request: Request,
) -> Result<Foreseen, cofferdam_sandbox::Error> {
    let store = Store::open(state)?;
    let mut images = HashMap::new();
    for name in wanted(&project, selection) {
        // One that is not here is told of where it is asked for.
        if let Ok(image) = store.get(&name) {
            images.insert(name, Arc::new(image));
        }
    }
    let target = selection.stages.last().map(|selected| selected.stage);
    let mut foreseeing = Foreseeing {
        state,
        given: Given::new(project, selection, images, request),
        stages: selection.stages.len(),
        target,
        made: HashMap::new(),
        instructions: Vec::new(),
    };
    for selected in &selection.stages {
        foreseeing.stage(selected);
    }
    let Foreseeing { mut made, instructions, .. } = foreseeing;
    let image = target.and_then(|target| made.remove(&target)).map(|made| made.lookup);
    Ok(Foreseen { instructions, image })
}

struct Foreseeing<'a> {
    state: &'a Path,
    given: Given,
    /// How many are selected.
    stages: usize,
    target: Option<usize>,
    made: HashMap<usize, Made>,
    instructions: Vec<(String, Forecast)>,
}

impl Foreseeing<'_> {
    fn stage(&mut self, selected: &Selected) {
        let project = Arc::clone(&self.given.project);
        let Some(stage) = project.dockerfile.stages.get(selected.stage) else { return };
        let name = name_of(stage, selected.stage, self.target == Some(selected.stage));
        let (begun, inherited) = match &selected.base {
            Base::Scratch => (Lookup::begin_empty(self.state).map_err(|it| with_causes(&it)), None),
            Base::Image(image) => {
                (Lookup::begin(self.state, image).map_err(|it| with_causes(&it)), None)
            }
            Base::Stage(number) => match self.made.get(number) {
                Some(made) => (Ok(made.lookup.clone()), Some(made.arguments.clone())),
                None => (Err(self.first(*number)), None),
            },
        };
        let mut lines: Vec<Line> = Vec::new();
        let begun = begun.and_then(|mut lookup| {
            let triggers = triggers(&lookup.take_triggers());
            lines.extend(triggers.map_err(|problem| problem.to_string())?);
            Ok(lookup)
        });
        lines.extend(stage.instructions.iter().cloned());
        let of = lines.len();
        let labelled = lines.iter().enumerate().map(|(number, line)| {
            let label = label((number, of), &name, self.stages);
            (format!("{label} {}", shortened(&line.text)), line)
        });
        let labelled: Vec<(String, &Line)> = labelled.collect();
        let mut lookup = match begun {
            Ok(lookup) => lookup,
            Err(why) => {
                let layers = labelled.into_iter().filter(|(_, line)| makes_layer(line));
                let unknown = layers.map(|(label, _)| (label, Forecast::Unknown(why.clone())));
                return self.instructions.extend(unknown);
            }
        };
        let variables = Variables::new(
            &self.given.arguments,
            project.dockerfile.escape,
            &lookup.configuration().env(),
            &inherited.unwrap_or_default(),
        );
        let stages: HashMap<usize, Arc<Image>> = self
            .made
            .iter()
            .map(|(number, made)| (*number, Arc::clone(made.lookup.image())))
            .collect();
        let configuration = lookup.configuration().clone();
        let mut lowering =
            Lowering::new(&self.given, self.state, variables, &configuration, stages);
        let mut before: Option<Forecast> = None;
        for (number, (label, line)) in labelled.into_iter().enumerate() {
            let forecast = match &before {
                Some(before) => before.clone(),
                None => self.line(line, &mut lowering, &mut lookup),
            };
            before = before.or_else(|| forecast.after(number + 1));
            if makes_layer(line) || matches!(forecast, Forecast::Unknown(_)) {
                self.instructions.push((label, forecast));
            }
        }
        if before.is_none() {
            let arguments = lowering.variables.inherited().to_vec();
            self.made.insert(selected.stage, Made { lookup, arguments });
        }
    }

    fn line(&self, line: &Line, lowering: &mut Lowering, lookup: &mut Lookup) -> Forecast {
        for from in takes_from(&line.kind) {
            match from {
                CopyFrom::Stage(number) if !self.made.contains_key(number) => {
                    return Forecast::Unknown(self.first(*number));
                }
                CopyFrom::Image(name) if !self.given.images.contains_key(name) => {
                    return Forecast::Unknown(format!("the image `{name}` is not in the store"));
                }
                _ => {}
            }
        }
        let steps = match lowering.steps(line, lookup.configuration()) {
            Ok(steps) => steps,
            Err(problem) => return Forecast::Unknown(problem.to_string()),
        };
        for step in &steps {
            match lookup.step(step) {
                Ok(Forecast::Kept) => {}
                Ok(other) => return other,
                Err(error) => return Forecast::Unknown(with_causes(&error)),
            }
        }
        Forecast::Kept
    }

    /// Why nothing is known yet of what needs a stage.
    fn first(&self, number: usize) -> String {
        let stage = self.given.project.dockerfile.stages.get(number);
        let name = stage.map(|stage| name_of(stage, number, false));
        format!("the stage `{}` is built first", name.unwrap_or_default())
    }
}

fn makes_layer(line: &Line) -> bool {
    matches!(line.kind, Kind::Run(_) | Kind::Copy(_) | Kind::Workdir(_))
}
