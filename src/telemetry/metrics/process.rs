//! The metrics of the process, with the names that client libraries of Prometheus share
//! (<https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>). Values that cannot be read are left out.

use std::fmt;

use procfs::process::{LimitValue, Process};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Reads `/proc/self` at each scrape.
#[derive(Debug)]
pub(super) struct ProcessCollector;

// A sample is a 64-bit float in every client of Prometheus.
#[allow(clippy::cast_precision_loss)]
impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let Ok(process) = Process::myself() else { return Ok(()) };
        if let Ok(stat) = process.stat() {
            let seconds = |ticks: u64| ticks as f64 / procfs::ticks_per_second() as f64;
            let (name, help) = ("process_cpu_seconds", "Total user and system CPU time spent in seconds");
            let counter = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(seconds(stat.utime + stat.stime)).encode(counter)?;
            gauge(&mut encoder, "virtual_memory_bytes", "Virtual memory size in bytes", stat.vsize as f64)?;
            let resident = (stat.rss * procfs::page_size()) as f64;
            gauge(&mut encoder, "resident_memory_bytes", "Resident memory size in bytes", resident)?;
            if let Ok(boot) = procfs::boot_time_secs() {
                let (name, help) =
                    ("start_time_seconds", "Start time of the process since the Unix epoch in seconds");
                gauge(&mut encoder, name, help, boot as f64 + seconds(stat.starttime))?;
            }
        }
        if let Ok(open) = process.fd_count() {
            gauge(&mut encoder, "open_fds", "Number of open file descriptors", open as f64)?;
        }
        if let Ok(limits) = process.limits()
            && let LimitValue::Value(max) = limits.max_open_files.soft_limit
        {
            gauge(&mut encoder, "max_fds", "Maximum number of open file descriptors", max as f64)?;
        }
        Ok(())
    }
}

fn gauge(encoder: &mut DescriptorEncoder, name: &str, help: &str, value: f64) -> fmt::Result {
    let name = format!("process_{name}");
    let metric = encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?;
    ConstGauge::new(value).encode(metric)
}
