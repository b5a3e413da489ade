"""Worker processes on one machine: started, replaced, drained and stopped; they run granian."""
