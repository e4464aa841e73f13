//! Images made here: the layers of another, those that were made over it, and a configuration.

use serde_json::json;

use super::{
    config::{self, ImageConfig},
    digest::Digest,
    import::chain_ids,
    open::{self, Image},
    platform,
    reference::Reference,
    store::{ImageRecord, LayerDir, LayerUse, Scratch, Store},
};
use crate::{Error, Result, error::Doing as _};

/// What an image is made from.
#[derive(Debug)]
pub struct Base {
    /// Its configuration, a JSON document (OCI image specification, "Image Configuration").
    pub document: String,
    uses: Vec<LayerUse>,
    image: Image,
}

impl Base {
    /// The id of the stack of its layers, which is what the files in it depend on.
    pub fn chain_id(&self) -> Digest {
        let diff_ids: Vec<_> = self.uses.iter().filter_map(|it| it.diff_id.parse().ok()).collect();
        chain_ids(&diff_ids).pop().unwrap_or_else(|| Digest::of(b""))
    }

    /// How many layers it has.
    pub fn layers(&self) -> usize {
        self.uses.len()
    }

    /// The image itself.
    pub fn image(&self) -> &Image {
        &self.image
    }
}

/// The id of the stack that has the layer `diff_id` over the stack `below`, which may be empty (OCI
/// image specification, "Layer ChainID").
pub fn next_chain_id(below: &Digest, diff_id: &Digest, is_empty: bool) -> Digest {
    match is_empty {
        true => diff_id.clone(),
        false => Digest::of(format!("{below} {diff_id}").as_bytes()),
    }
}

impl Store {
    /// What is needed of `image` to make another from it.
    ///
    /// # Errors
    /// When the store has lost it.
    pub fn base(&self, image: &Image) -> Result<Base> {
        let image = image.with_layers(&[])?;
        if !image.host_mounts.is_empty() && self.image_record(&image.digest)?.is_none() {
            let document = host_document(&image);
            let uses = image.layers.iter().map(LayerUse::of).collect();
            return Ok(Base { document, uses, image });
        }
        let record = self.image_record(&image.digest)?.ok_or_else(|| {
            let doing = format!("make an image from `{}`", image.digest);
            Error::system(doing, "the store has lost it").remedy("pull or import it again")
        })?;
        Ok(Base { document: record.config, uses: record.layers, image })
    }

    /// An image without files, to make others from.
    pub fn empty_base(&self) -> Base {
        let document = json!({
            "architecture": platform::architecture(),
            "os": platform::OS,
            "config": {},
            "rootfs": { "type": "layers", "diff_ids": [] },
        });
        let document = document.to_string();
        let image = Image {
            reference: None,
            digest: Digest::of(document.as_bytes()),
            layers: Vec::new(),
            config: ImageConfig {
                architecture: platform::architecture().to_owned(),
                os: platform::OS.to_owned(),
                ..ImageConfig::default()
            },
            host_mounts: Vec::new(),
        };
        Base { document, uses: Vec::new(), image }
    }

    /// Puts an image together: the layers of `base`, `layers` over them, and the configuration
    /// `document`, of which the layers' part is filled in here. It stands for `names` from then on.
    ///
    /// # Errors
    /// When the document is no configuration, a name is the embedded image's, or the store cannot be
    /// written.
    pub fn put_together(
        &self,
        base: &Base,
        layers: &[LayerDir],
        document: &str,
        names: &[Reference],
    ) -> Result<Image> {
        let doing = || "put an image together".to_owned();
        for name in names {
            let wrong = match (name.is_embedded(), name.digest()) {
                (true, _) => "the name `host` belongs to the embedded image",
                (_, Some(_)) => "a digest cannot be chosen",
                _ => continue,
            };
            return Err(wrong).pipeline(|| format!("name an image `{name}`"));
        }
        let mut uses: Vec<LayerUse> = base.uses.clone();
        uses.extend(layers.iter().map(LayerUse::of));
        let mut document: serde_json::Value = serde_json::from_str(document).system(doing)?;
        let diff_ids: Vec<_> = uses.iter().map(|layer| layer.diff_id.as_str()).collect();
        let fields = document.as_object_mut().ok_or("it is no object").system(doing)?;
        fields.insert("rootfs".to_owned(), json!({ "type": "layers", "diff_ids": diff_ids }));
        let document = document.to_string();
        config::parse(document.as_bytes()).pipeline(doing)?;
        let id = Digest::of(document.as_bytes());
        let record = ImageRecord { config: document, manifest: None, layers: uses };
        let scratch = Scratch::new(self)?;
        self.publish_unnamed(&scratch, &id, &record)?;
        for name in names {
            self.publish_image(&scratch, &id, None, &record, (name, false))?;
        }
        let mut all = Vec::new();
        for layer in base.image.layers.iter().chain(layers) {
            all.push(layer.again()?);
        }
        let mut image = open::image(id, names.first().cloned(), &record, all)?;
        image.host_mounts.clone_from(&base.image.host_mounts);
        Ok(image)
    }
}

impl Image {
    /// This image with more layers over it.
    ///
    /// # Errors
    /// When this process may open no more files.
    pub fn with_layers(&self, layers: &[LayerDir]) -> Result<Self> {
        let mut all = Vec::with_capacity(self.layers.len() + layers.len());
        for layer in self.layers.iter().chain(layers) {
            all.push(layer.again()?);
        }
        Ok(Self {
            reference: self.reference.clone(),
            digest: self.digest.clone(),
            layers: open::once_each(all),
            config: self.config.clone(),
            host_mounts: self.host_mounts.clone(),
        })
    }
}

/// What the embedded image would have as a configuration.
fn host_document(image: &Image) -> String {
    let env: Vec<_> =
        image.config.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    json!({
        "architecture": image.config.architecture,
        "os": image.config.os,
        "config": { "Env": env },
        "rootfs": { "type": "layers", "diff_ids": [] },
    })
    .to_string()
}
