package anabranch.benchmark;

/** The features of a card transaction, as models/features.py has them; times are in UTC. */
final class FeatureVector {

    private static final long HOUR_MS = 3_600_000;
    private static final long DAY_MS = 24 * HOUR_MS;
    private static final int EPOCH_WEEKDAY = 3; // 1970-01-01 was a Thursday
    private static final int LAST_NIGHT_HOUR = 6;
    private static final int SATURDAY = 5;

    private FeatureVector() {}

    /** Amount, log1p(amount), hour from 0 to 23, and 1 or 0 for night and for weekend. */
    static double[] of(Event event) {
        long hour = Math.floorMod(Math.floorDiv(event.occurredAtMs(), HOUR_MS), 24L);
        long day = Math.floorDiv(event.occurredAtMs(), DAY_MS);
        long weekday = Math.floorMod(day + EPOCH_WEEKDAY, 7L);
        return new double[] {
            event.amount(),
            Math.log1p(event.amount()),
            hour,
            hour <= LAST_NIGHT_HOUR ? 1 : 0,
            weekday >= SATURDAY ? 1 : 0
        };
    }
}
