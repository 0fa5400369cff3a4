//! Charts of a run as PNG and SVG.

mod chart;
mod draw;

use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::metrics::Metrics;

/// Writes the charts of a run and gives their paths.
pub fn write_charts(metrics: &Metrics, folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    std::fs::create_dir_all(folder)
        .map_err(|error| Failure::failed(format!("cannot make {}: {error}", folder.display())))?;
    draw::register_font()?;
    let mut written = Vec::new();
    for chart in chart::of_run(metrics) {
        for ending in ["png", "svg"] {
            let path = folder.join(format!("{}.{ending}", chart.file));
            draw::write(&chart, &path)?;
            written.push(path);
        }
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_quantity_gets_its_files() {
        let run = tempfile::tempdir().unwrap();
        std::fs::write(run.path().join("metrics.jsonl"), crate::metrics::tests::FILE).unwrap();
        let metrics = Metrics::read(run.path()).unwrap();
        let paths = write_charts(&metrics, &run.path().join("plots")).unwrap();
        let names: Vec<_> = paths.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(
            names,
            [
                "training-loss.png",
                "training-loss.svg",
                "validation-nelbo-subtoken-bits-per-character.png",
                "validation-nelbo-subtoken-bits-per-character.svg",
                "validation-joint-objective-nats-per-token.png",
                "validation-joint-objective-nats-per-token.svg"
            ]
        );
        assert!(std::fs::read(&paths[0]).unwrap().starts_with(b"\x89PNG"));
        let svg = std::fs::read_to_string(&paths[5]).unwrap();
        for text in ["joint_objective", "nats per token", "surrogate, no likelihood", "optimiser step"] {
            assert!(svg.contains(text), "{text}");
        }
    }
}
