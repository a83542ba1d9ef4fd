//! test
strandline_conformance::backend_tests!(strandline_backend_memory::MemoryBackendFactory::default());
