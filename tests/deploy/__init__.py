"""What is deployed around the pipelines: dashboards, alerts, and how they are started."""
