//! `--from` and `from=`: an earlier stage by name or number, or an image.

use super::{fragment::Fragment, instruction::Reading, model::CopyFrom};
use crate::{
    check::is_image_reference,
    diagnostic::{Code, quoted},
    source::Spanned,
    suggest::suggestion,
};

/// Reads it; the name is not subject to variables, so that the stages a build needs are known
/// before it begins.
pub(super) fn read(text: Fragment<'_>, reading: &mut Reading<'_>) -> Option<Spanned<CopyFrom>> {
    let name = text.text().trim_matches(['"', '\'']);
    if name.contains('$') {
        let help = "name a stage: `FROM $IMAGE AS name`, and take files from that";
        let message = "variables have no meaning in the name of a stage or image";
        reading.fault(Code::DockerfileFlag, text.span(), message, help);
        return None;
    }
    let lower = name.to_ascii_lowercase();
    let stage = reading.stages.iter().rposition(|stage| stage.as_deref() == Some(lower.as_str()));
    if let Some(stage) = stage {
        return Some(Spanned::new(CopyFrom::Stage(stage), text.span()));
    }
    if let Ok(number) = name.parse::<usize>() {
        if number < reading.stages.len() {
            return Some(Spanned::new(CopyFrom::Stage(number), text.span()));
        }
        let message = format!("there is no stage {number} before this one");
        let help = "stages are numbered from 0 in the order of the file";
        reading.fault(Code::DockerfileStage, text.span(), message, help);
        return None;
    }
    if lower == "scratch" || lower == "context" || !is_image_reference(name) {
        let known = reading.stages.iter().flatten().map(String::as_str);
        let near = suggestion(&lower, known);
        let message = format!("{} is neither a stage nor an image", quoted(name));
        let help = near.unwrap_or_else(|| "name a stage with `FROM … AS name` before".to_owned());
        reading.fault(Code::DockerfileStage, text.span(), message, &help);
        return None;
    }
    Some(Spanned::new(CopyFrom::Image(name.to_owned()), text.span()))
}
