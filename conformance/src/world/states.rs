//! The states that the world holds: every kind, with and without namespaces.

use strandline_state_api::{
    KeyedBackend, ListDescriptor, ListState, MapDescriptor, MapState, Result, TimerDescriptor, TimerService,
    ValueDescriptor, ValueState,
};

/// The handles.
#[derive(Clone, Copy, Debug)]
pub(crate) struct States {
    pub(crate) total: ValueState<u64>,
    pub(crate) label: ValueState<String, String>,
    pub(crate) lines: ListState<String, String>,
    pub(crate) fields: MapState<String, u64, String>,
    pub(crate) alarms: TimerService,
    pub(crate) windows: TimerService<String>,
}

pub(crate) fn total() -> ValueDescriptor<u64> {
    ValueDescriptor::new("total")
}

pub(crate) fn label() -> ValueDescriptor<String, String> {
    ValueDescriptor::new("label").namespaced()
}

pub(crate) fn lines() -> ListDescriptor<String, String> {
    ListDescriptor::new("lines").namespaced()
}

pub(crate) fn fields() -> MapDescriptor<String, u64, String> {
    MapDescriptor::new("fields").namespaced()
}

pub(crate) fn alarms() -> TimerDescriptor {
    TimerDescriptor::processing_time("alarms")
}

pub(crate) fn windows() -> TimerDescriptor<String> {
    TimerDescriptor::event_time("windows")
}

impl States {
    /// Their names.
    pub(crate) const NAMES: [&str; 6] = ["alarms", "fields", "label", "lines", "total", "windows"];

    /// Registers all of them.
    pub(crate) fn register<B: KeyedBackend>(backend: &mut B) -> Result<Self> {
        Ok(Self {
            total: backend.register_value(&total())?,
            label: backend.register_value(&label())?,
            lines: backend.register_list(&lines())?,
            fields: backend.register_map(&fields())?,
            alarms: backend.register_timers(&alarms())?,
            windows: backend.register_timers(&windows())?,
        })
    }

    /// The same in another order: after a restore, names count and not positions.
    pub(crate) fn register_reversed<B: KeyedBackend>(backend: &mut B) -> Result<Self> {
        let windows = backend.register_timers(&windows())?;
        let alarms = backend.register_timers(&alarms())?;
        let fields = backend.register_map(&fields())?;
        let lines = backend.register_list(&lines())?;
        let label = backend.register_value(&label())?;
        let total = backend.register_value(&total())?;
        Ok(Self { total, label, lines, fields, alarms, windows })
    }
}
