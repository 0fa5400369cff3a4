//! What a run on text held out.

use std::path::Path;

use submask::Model;
use submask::data::PreparedData;
use submask::model::HeldOut;
use submask::train::settings::RunSettings;

use crate::Fallible;

/// `count` sequences spread evenly over the text that the run in a folder held out; all where there are fewer.
///
/// # Errors
/// Those of the prepared data, and one for a run on no text.
pub fn held_out_text(run: &Path, settings: &RunSettings, model: &Model, count: u64) -> Fallible<HeldOut> {
    let text = settings.data.text().ok_or("a run on text")?;
    let folder = if text.cache.as_os_str().is_empty() { run.join("data") } else { text.cache.clone() };
    let layout = text.layout(model.config().seq_len());
    let blocks = PreparedData::open(folder)?.validation(layout)?.ok_or("nothing is held out")?;
    let all = blocks.blocks().len();
    let count = count.min(all);
    let chosen = (0..count).map(|i| blocks.block(i * all / count)).collect::<submask::Result<Vec<_>>>()?;
    Ok(HeldOut::of_text(&chosen))
}
