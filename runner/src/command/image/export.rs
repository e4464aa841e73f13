//! `cofferdam image export`.

use cofferdam_sandbox::image::{ExportForm, Store};
use serde_json::json;

use super::{missing, reference};
use crate::{
    cli::{ExportFormat, ExportImage},
    print,
    problem::Problem,
    report::layers::Pulls,
};

pub(super) fn run(store: &Store, arguments: ExportImage) -> Result<(), Problem> {
    let name = reference(&arguments.name)?;
    if store.find(&arguments.name)?.is_none() || name.is_embedded() {
        return Err(missing(&arguments.name));
    }
    let path = arguments.path;
    let archive = path.extension().is_some_and(|extension| extension == "tar");
    let form = match arguments.format {
        Some(ExportFormat::Oci) => ExportForm::Layout,
        Some(ExportFormat::OciArchive) => ExportForm::LayoutArchive,
        Some(ExportFormat::DockerArchive) => ExportForm::DockerArchive,
        None if archive => ExportForm::LayoutArchive,
        None => ExportForm::Layout,
    };
    let shown = Pulls::new(arguments.json);
    let layers = shown.begin(&format!("exporting {name}"), "written");
    let packing = arguments.compression.into();
    let exported = store.export(&name, &path, form, packing, &|layer, blob| {
        layers.add(layer, blob.size, blob.size);
        layers.done(layer);
    });
    drop(layers);
    shown.finish();
    let digest = exported?.map(|digest| digest.to_string());
    if arguments.json {
        let document = json!({
            "name": name.to_string(),
            "path": path.display().to_string(),
            "digest": digest,
        });
        return print::standard_output(document);
    }
    let digest = digest.map_or_else(String::new, |digest| format!(" ({digest})"));
    print::standard_error(format_args!("exported `{name}` to `{}`{digest}", path.display()));
    Ok(())
}
