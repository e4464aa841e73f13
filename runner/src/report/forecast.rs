//! What a build will do with a step, for people and for programs.

use serde_json::{Value, json};

use super::style::one_line;
use crate::build::Forecast;
#[cfg(test)]
use crate::execute::forecast::Forecasts;

const KEPT: &str = "kept from an earlier build";

/// What will be done with a step, without its subject: a line, and one for each instruction.
pub(crate) fn lines(forecast: &Forecast) -> Vec<String> {
    let mut lines = vec![sentence(forecast)];
    if let Forecast::Instructions(all) = forecast {
        let one = |(label, forecast): &(String, Forecast)| {
            format!("  {}: {}", one_line(label), sentence(forecast))
        };
        lines.extend(all.iter().map(one));
    }
    lines
}

fn sentence(forecast: &Forecast) -> String {
    match forecast {
        Forecast::New(parts) => format!("will be run: {}", new(parts)),
        Forecast::Copied => "will be made: no layer has these files".to_owned(),
        Forecast::After(step) => format!("will be run, after step {step}"),
        Forecast::Instructions(all) if !forecast.is_kept() => {
            let kept = all.iter().filter(|(_, forecast)| forecast.is_kept()).count();
            format!("will be built: {kept} of {} layers are kept", all.len())
        }
        other => told(other),
    }
}

/// What was done with a step that has ended, without its subject.
pub(crate) fn told(forecast: &Forecast) -> String {
    match forecast {
        Forecast::Kept => KEPT.to_owned(),
        Forecast::New(parts) => format!("was run: {}", new(parts)),
        Forecast::Copied => "was made".to_owned(),
        Forecast::Instructions(_) if forecast.is_kept() => KEPT.to_owned(),
        Forecast::Instructions(_) => "was built".to_owned(),
        Forecast::After(step) => format!("was run, after step {step}"),
        Forecast::Unknown(why) => format!("not known: {}", one_line(why)),
    }
}

fn new(parts: &[String]) -> String {
    match parts {
        [] => "it is new".to_owned(),
        [part] => format!("{} is not as before", one_line(part)),
        parts => {
            let parts: Vec<String> = parts.iter().map(|part| one_line(part)).collect();
            format!("{} are not as before", parts.join(", "))
        }
    }
}

/// The same as data.
pub(crate) fn json(forecast: &Forecast) -> Value {
    match forecast {
        Forecast::Kept => json!({ "kept": true }),
        Forecast::New(parts) => json!({ "kept": false, "new": parts }),
        Forecast::Copied => json!({ "kept": false, "new": ["the files"] }),
        Forecast::Instructions(all) => {
            let one = |(label, forecast): &(String, Forecast)| json!({ "instruction": label, "layer": json(forecast) });
            let known = all.iter().all(|(_, it)| !matches!(it, Forecast::Unknown(_)));
            let kept = (known || forecast.is_kept()).then(|| forecast.is_kept());
            json!({ "kept": kept, "instructions": all.iter().map(one).collect::<Vec<_>>() })
        }
        Forecast::After(step) => json!({ "kept": false, "after": step }),
        Forecast::Unknown(why) => json!({ "kept": null, "why": why }),
    }
}

/// A plan with an image, of whose steps one is kept, for tests of reports.
#[cfg(test)]
pub(super) fn sample() -> (cofferdam_jobs::Plan, cofferdam_jobs::Sources, Forecasts) {
    let yaml = "images: { tool: { from: host, steps: [{ run: a }, { run: b }, { run: c }, { run: d }] } }\n\
                jobs: { use: { image: tool, steps: [{ run: x }] } }\n";
    let mut sources = cofferdam_jobs::Sources::new();
    let id = sources.add("a.yml", yaml.as_bytes());
    let pipeline = cofferdam_jobs::parse(&sources, id).pipeline.unwrap();
    let plan = cofferdam_jobs::plan(&pipeline, &cofferdam_jobs::Inputs::default()).unwrap();
    let forecasts = vec![
        Forecast::Kept,
        Forecast::New(vec!["the script".to_owned(), "the variable `A`".to_owned()]),
        Forecast::After(2),
        Forecast::Unknown("nobody\nknows".to_owned()),
    ];
    let image = plan.jobs.iter().find(|job| job.build.is_some()).unwrap().id.clone();
    (plan, sources, Forecasts::from([(image, forecasts)]))
}
