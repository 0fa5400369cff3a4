//! Models of images, and of points, which are shown as a picture.

use std::path::{Path, PathBuf};

use submask::model::{Generated, ModelConfig, Session, TextPrompt};
use submask::train::settings::{ImageSetChoice, RunSettings};

use super::held_out_images::{Wanted, held_out};
use super::{Chosen, Door, Part, given};
use crate::args::{EvalArgs, SampleArgs};
use crate::commands::sample::Shown;
use crate::failure::Failure;
use crate::output::{self, PictureResult, SampleCost};
use crate::present::picture;

/// Images and points.
pub struct Pictures;

impl Door for Pictures {
    fn prompt(
        &self,
        args: &SampleArgs,
        _: Option<&TextPrompt>,
        session: &Session,
    ) -> Result<Vec<Option<u32>>, Failure> {
        given::digits(&args.images, session.architecture())
    }

    fn held_out<'a>(
        &self,
        args: &'a EvalArgs,
        folder: &'a Path,
        _: &ModelConfig,
    ) -> Result<Chosen<'a>, Failure> {
        let wanted = Wanted {
            data: &args.data,
            set: args.images.images,
            labels: args.images.labels.as_deref(),
            part: args.images.part,
            count: args.sequences.map_or(0, Into::into),
        };
        Ok(Box::new(move |architecture, shard| {
            let (sequences, name) = held_out(&wanted, folder, architecture.config())?;
            Part::of_sequences(sequences, name, architecture.config().classes(), shard)
        }))
    }

    fn show(&self, shown: &Shown, generated: Generated) -> Result<(), Failure> {
        let out = shown.about.out.as_deref().unwrap_or(Path::new("samples.png"));
        let architecture = (shown.architecture)()?;
        let mut written: Vec<PathBuf> = vec![picture::write(&architecture, &generated, out)?];
        if shown.about.trace {
            written.push(picture::write_traces(&architecture, &generated, out)?);
        }
        let pictures: Vec<String> = written.iter().map(|path| path.display().to_string()).collect();
        if shown.about.json {
            let cost = SampleCost::from(&generated.report);
            return output::write_json(&PictureResult {
                model: shown.about.folder.clone(),
                seed: shown.about.seed,
                pictures,
                samples: generated.tokens,
                cost,
            });
        }
        output::write(&pictures.into_iter().map(|path| path + "\n").collect::<String>())
    }

    fn check_data(
        &self,
        settings: &RunSettings,
        _named: bool,
        (preset, _): (&str, bool),
    ) -> Result<(), Failure> {
        let (mut images, mut named, mut flag): (Vec<&PathBuf>, _, _) = (Vec::new(), true, "--data PATH");
        if let Some(set) = settings.data.images() {
            let labels = [&set.labels, &set.valid_labels].into_iter();
            images.extend(set.paths.iter().chain(&set.valid_paths));
            images.extend(labels.filter(|path| !path.as_os_str().is_empty()));
            named = set.set == ImageSetChoice::Emoji || !set.paths.is_empty();
        }
        if let Some(density) = settings.data.density() {
            named = !density.image.as_os_str().is_empty();
            images.extend(named.then_some(&density.image));
            flag = "--image FILE";
        }
        if let Some(missing) = images.into_iter().find(|path| !path.exists()) {
            let shown = missing.display();
            return Err(Failure::usage(format!("[data] names {shown}, which does not exist")).about(
                "data",
                shown,
                "files and folders that there are",
            ));
        }
        if !named {
            let message = format!("the preset {preset} needs pictures: only the emoji are built in");
            return Err(Failure::usage(message)
                .hint(format!("give them by {flag}"))
                .about("data", "nothing", flag));
        }
        Ok(())
    }

    fn keeps_its_data(&self) -> bool {
        false
    }
}
