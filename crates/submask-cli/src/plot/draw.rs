//! A chart onto a bitmap or a vector graphic.

use std::path::Path;

use plotters::backend::DrawingBackend;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::FontStyle;

use super::chart::Chart;
use crate::failure::Failure;
use crate::output;

const SIZE: (u32, u32) = (960, 600);
const FONT: &str = "sans-serif";
const LINE: RGBColor = RGBColor(0x1f, 0x5f, 0xa8);

/// The font of the labels; there is no system font to rely on.
pub fn register_font() -> Result<(), Failure> {
    plotters::style::register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT)
        .map_err(|_| Failure::failed("the font for charts cannot be read"))
}

/// Writes a chart, as SVG if the path ends in `.svg`, else as PNG.
pub fn write(chart: &Chart, path: &Path) -> Result<(), Failure> {
    let drawn = match path.extension().is_some_and(|ending| ending == "svg") {
        true => svg(chart),
        false => paint(chart).and_then(|pixels| png(&pixels).map_err(|error| error.to_string())),
    };
    let drawn = drawn.map_err(|error| Failure::failed(format!("cannot draw {}: {error}", path.display())))?;
    output::write_file(path, drawn)
}

fn svg(chart: &Chart) -> Result<Vec<u8>, String> {
    let mut text = String::new();
    draw(chart, &SVGBackend::with_string(&mut text, SIZE).into_drawing_area())
        .map_err(|error| error.to_string())?;
    Ok(text.into_bytes())
}

/// The chart's pixels, red, green and blue, in rows.
fn paint(chart: &Chart) -> Result<Vec<u8>, String> {
    let mut pixels = vec![0; SIZE.0 as usize * SIZE.1 as usize * 3];
    draw(chart, &BitMapBackend::with_buffer(&mut pixels, SIZE).into_drawing_area())
        .map_err(|error| error.to_string())?;
    Ok(pixels)
}

/// Pixels as PNG.
fn png(pixels: &[u8]) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, SIZE.0, SIZE.1);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(bytes)
}

fn draw<B: DrawingBackend>(
    chart: &Chart,
    area: &DrawingArea<B, Shift>,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    area.fill(&WHITE)?;
    let (steps, values) = chart.ranges();
    let mut context = ChartBuilder::on(area)
        .caption(&chart.title, (FONT, 22))
        .margin(16)
        .x_label_area_size(48)
        .y_label_area_size(72)
        .build_cartesian_2d(steps, values)?;
    context
        .configure_mesh()
        .x_desc("optimiser step")
        .y_desc(&chart.axis)
        .axis_desc_style((FONT, 17))
        .label_style((FONT, 14))
        .light_line_style(TRANSPARENT)
        .x_label_formatter(&|step| format!("{step:.0}"))
        .draw()?;
    let line = chart.points.iter().map(|point| (point.step, point.value));
    if chart.smooth {
        context.draw_series(LineSeries::new(line, LINE.mix(0.3)))?;
        context.draw_series(LineSeries::new(chart.running_mean(), LINE.stroke_width(2)))?;
    } else {
        context.draw_series(LineSeries::new(line, LINE.stroke_width(2)).point_size(3))?;
        let bars = chart.points.iter().filter(|point| point.error > 0.0).map(|point| {
            let ends = [point.value - point.error, point.value + point.error];
            PathElement::new(ends.map(|end| (point.step, end)), LINE)
        });
        context.draw_series(bars)?;
    }
    area.present()
}
