"""What stands on Kafka, how it gets there and who reads it: nothing here knows of models.

    pipeline/   the pipeline file: what flows, through which components, onto which topics
    kafka/      connections, topics, records in batches, the embedded broker
    transport/  Faust's transport on aiokafka, whose unit is the fetch
    records/    what stands on each topic: stage batches, decisions, dead letters, control, reports
    events/     events from outside: validated, their times and keys held to the pipeline file
    redrive/    dead letters on their way through the pipeline again
    installation/   our packages among others that are called so
Everything may import it. It imports nothing of `models` or `agents`.
"""
