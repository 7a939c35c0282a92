"""What everything else stands on: settings, errors, files, the console, plots and pages. No torch here."""
