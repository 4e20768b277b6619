//! The figures as a picture.

use std::fmt::Write as _;

/// Two charts side by side: ns per packet and Gbps over the packet's size, both axes
/// logarithmic.
pub(crate) fn svg(points: &[(String, usize, f64, f64)]) -> String {
    const COLOURS: [&str; 7] = [
        "#c0392b", "#e67e22", "#2980b9", "#27ae60", "#8e44ad", "#555555", "#16a085",
    ];
    let (width, height, margin) = (400.0, 320.0, 56.0);
    let mut names: Vec<&str> = Vec::new();
    for (name, ..) in points {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let mut out = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"1120\" height=\"440\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"1120\" height=\"440\" fill=\"white\"/>\n",
    );
    for (chart, title) in ["ns per packet", "Gbps on one core"]
        .into_iter()
        .enumerate()
    {
        let value = |p: &(String, usize, f64, f64)| if chart == 0 { p.2 } else { p.3 };
        let logs = |values: Vec<f64>| {
            let low = values
                .iter()
                .copied()
                .fold(f64::MAX, f64::min)
                .log2()
                .floor();
            let high = values.iter().copied().fold(1.0, f64::max).log2().ceil();
            (low, high.max(low + 1.0))
        };
        let (x0, x1) = logs(points.iter().map(|p| p.1 as f64).collect());
        let (y0, y1) = logs(points.iter().map(value).collect());
        let left = margin + chart as f64 * (width + margin);
        let x = |v: f64| left + (v.log2() - x0) / (x1 - x0) * width;
        let y = |v: f64| margin + height - (v.log2() - y0) / (y1 - y0) * height;
        let _ = writeln!(
            out,
            "<text x=\"{left}\" y=\"30\" font-size=\"15\">AES-128-GCM, sealing, hot: {title}</text>"
        );
        for exponent in y0 as i32..=y1 as i32 {
            let (at, label) = (y(f64::from(exponent).exp2()), f64::from(exponent).exp2());
            let _ = writeln!(
                out,
                "<path d=\"M{left} {at:.1}h{width}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                left - 6.0,
                at + 4.0
            );
        }
        let mut sizes: Vec<_> = points.iter().map(|p| p.1).collect();
        sizes.sort_unstable();
        sizes.dedup();
        for size in sizes {
            let at = x(size as f64);
            let _ = writeln!(
                out,
                "<path d=\"M{at:.1} {margin}v{height}\" stroke=\"#eee\"/><text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{size}</text>",
                margin + height + 18.0
            );
        }
        for (name, colour) in names.iter().zip(COLOURS.iter().cycle()) {
            let line: Vec<_> = points
                .iter()
                .filter(|p| p.0 == *name)
                .map(|p| format!("{:.1},{:.1}", x(p.1 as f64), y(value(p))))
                .collect();
            let _ = writeln!(
                out,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                line.join(" ")
            );
        }
    }
    for (i, (name, colour)) in names.iter().zip(COLOURS.iter().cycle()).enumerate() {
        let at = margin + 20.0 * i as f64;
        let _ = writeln!(
            out,
            "<path d=\"M960 {at}h20\" stroke=\"{colour}\" stroke-width=\"2\"/><text x=\"986\" y=\"{}\">{name}</text>",
            at + 4.0
        );
    }
    let _ = writeln!(
        out,
        "<text x=\"56\" y=\"425\">bytes of the encrypted part; medians</text>\n</svg>"
    );
    out
}
