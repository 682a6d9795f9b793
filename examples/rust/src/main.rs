//! cargo run --release MODEL.onnx REPORT.json 1,160 < PULSES.f32 > FRAMES.f32
//!
//! Streams a pulsed float32 model with one streaming input: pulse after pulse in the layout of that input, raw. Out
//! comes the first output, call by call, from the first call that holds a frame that counts (docs/contract.md).
//! REPORT.json is what `pulsify ... --report REPORT.json` wrote beside the model: it holds the manifest. The third
//! argument is the shape of one pulse.

use std::io::{stdin, stdout, Read, Write};

use ort::{session::Session, value::{DynValue, Tensor}};
use serde_json::Value;

/// Zeros of a shape, where a name (the batch) stands for one row.
fn zeros(dtype: &str, shape: &Value) -> ort::Result<DynValue> {
    let shape: Vec<i64> = shape.as_array().unwrap().iter().map(|d| d.as_i64().unwrap_or(1)).collect();
    let count = shape.iter().product::<i64>() as usize;
    Ok(match dtype {
        "float32" => Tensor::from_array((shape, vec![0f32; count]))?.into_dyn(),
        "float64" => Tensor::from_array((shape, vec![0f64; count]))?.into_dyn(),
        "int64" => Tensor::from_array((shape, vec![0i64; count]))?.into_dyn(),
        "bool" => Tensor::from_array((shape, vec![false; count]))?.into_dyn(),
        other => panic!("a state of type {other}"),
    })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let mut session = Session::builder()?.with_intra_threads(1)?.commit_from_file(&args[1])?;
    let m: Value = serde_json::from_str(&std::fs::read_to_string(&args[2])?)?;
    let (m, text) = (&m["manifest"], |v: &Value| v.as_str().unwrap().to_string());
    let (input, output, pulse) = (&m["inputs"][0], &m["outputs"][0], m["pulse"].as_u64().unwrap() as usize);
    let shape = args[3].split(',').map(str::parse).collect::<Result<Vec<i64>, _>>()?;
    let mut states = Vec::new();
    for s in m["states"].as_array().unwrap() {
        states.push((text(&s["input"]), text(&s["output"]), zeros(&text(&s["dtype"]), &s["shape"])?));
    }
    let (frames, delay) = (output["frames"].as_u64().unwrap(), output["delay"].as_u64().unwrap());
    let mut flush = delay.div_ceil(frames); // calls after the last real frame, for the tail
    let count = shape.iter().product::<i64>() as usize;
    for call in 1.. {
        let mut bytes = Vec::new();
        stdin().take(count as u64 * 4).read_to_end(&mut bytes)?;
        if bytes.is_empty() && flush == 0 {
            break;
        }
        flush -= bytes.is_empty() as u64;
        let mut x: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        let real = (x.len() * pulse / count) as i64;
        x.resize(count, 0.0); // any finite filler
        let mut feeds = vec![(text(&input["name"]), Tensor::from_array((shape.clone(), x))?.into_dyn())];
        if let Some(valid) = m["valid"]["input"].as_str() {
            feeds.push((valid.to_string(), Tensor::from_array(([1], vec![real]))?.into_dyn()));
        }
        let names: Vec<_> = states.iter().map(|(past, present, _)| (past.clone(), present.clone())).collect();
        feeds.extend(states.drain(..).map(|(past, _, value)| (past, value)));
        let mut results = session.run(feeds)?;
        states.extend(names.into_iter().map(|(past, present)| {
            let value = results.remove(&present).unwrap();
            (past, present, value)
        }));
        if call * frames > delay {
            // delay % frames of the first are warm-up; what is past length(S) is filler
            let (_, data) = results[text(&output["name"]).as_str()].try_extract_tensor::<f32>()?;
            stdout().write_all(&data.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())?;
        }
    }
    Ok(())
}
