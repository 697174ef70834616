package certificate

// Reload is what Run does now and then.
var Reload = (*Files).reload
