// SPDX-License-Identifier: MIT
/*
 * The ratios as an SVG: a panel for each of weir's rows, a group of bars for each phase, a colour for each number of
 * threads. A bar ends at the median, its whisker goes from the least to the most of the rounds.
 */
#include <math.h>

#include "base/print.h"
#include "cli/bench_results.h"

enum {
	WIDTH = 1120,
	LEFT = 96, /* of the first panel: room for the names of the phases */
	TOP = 118,
	PANEL = 440,
	GAP = 56, /* between two panels */
	BAR = 15,
	GROUP_GAP = 14,
	BELOW = 62,
};

static const char *const colours[COUNTS_MAX] = {
	"#4477aa", "#ee8866", "#228833", "#aa3377", "#66ccee", "#ccbb44", "#332288", "#bbbbbb",
};

#define WHISKER "stroke=\"#222\" stroke-width=\"1.2\""
#define GOAL "stroke=\"#c00\" stroke-width=\"2.5\""

struct chart {
	const struct bench_results *results;
	FILE *out;
	double most; /* of the axis */
	double step; /* between two lines of the grid */
	int height; /* of a panel */
	bool has_goals; /* other than 1, where there is a line in any case */
};

static double group_height(const struct chart *chart)
{
	return (double)(chart->results->nr_counts * BAR + GROUP_GAP);
}

static double x_of(const struct chart *chart, int panel, double ratio)
{
	return LEFT + panel * (PANEL + GAP) + PANEL * fmin(ratio, chart->most) / chart->most;
}

static void text_at(const struct chart *chart, double x, double y, const char *style, const char *text)
{
	fprintf(chart->out, "<text x=\"%.1f\" y=\"%.1f\" %s>", x, y, style);
	for (const char *c = text; *c; c++) {
		if (*c == '<' || *c == '>' || *c == '&')
			fprintf(chart->out, "&#%d;", *c);
		else
			fputc(*c, chart->out);
	}
	fputs("</text>\n", chart->out);
}

static void line_at(const struct chart *chart, double x1, double y1, double x2, double y2, const char *style)
{
	fprintf(chart->out, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" %s/>\n", x1, y1, x2, y2, style);
}

/* An axis that ends at a round number beyond everything, with four to ten steps. */
static void scale_axis(struct chart *chart)
{
	static const double steps[] = { 0.1, 0.2, 0.25, 0.5, 1, 2, 5, 10, 20, 50, 100 };
	double most = 1.5;
	size_t i = 0;

	for (unsigned int count = 0; count < chart->results->nr_counts; count++) {
		for (unsigned int p = 0; p < NR_PHASES; p++) {
			if (!results_has_phase(chart->results, p))
				continue;
			most = fmax(most, bench_goals[p]);
			chart->has_goals |= bench_goals[p] != 1;
			for (unsigned int row = ROW_MEMORY; row < NR_ROWS; row++)
				most = fmax(most, results_ratio(chart->results, count, row, p).max);
		}
	}
	while (i < ARRAY_SIZE(steps) - 1 && most / steps[i] > 8)
		i++;
	chart->step = steps[i];
	chart->most = ceil(most * 1.02 / steps[i]) * steps[i];
}

static void draw_grid(const struct chart *chart, int panel)
{
	double bottom = TOP + chart->height;

	for (double ratio = 0; ratio <= chart->most + chart->step / 2; ratio += chart->step) {
		double x = x_of(chart, panel, ratio);
		char text[16];

		snprintf(text, sizeof(text), "%.*f", chart->step < 0.5 ? 2 : 1, ratio);
		line_at(chart, x, TOP, x, bottom, "stroke=\"#e4e4e4\"");
		text_at(chart, x, bottom + 18, "text-anchor=\"middle\" fill=\"#555\"", text);
	}
}

static void draw_bar(const struct chart *chart, int panel, unsigned int count, double y, struct spread s)
{
	double x0 = x_of(chart, panel, 0), x = x_of(chart, panel, s.median), middle = y + BAR / 2.0;
	double least = x_of(chart, panel, s.min), most = x_of(chart, panel, s.max);

	fprintf(chart->out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>\n", x0, y + 1,
		x - x0, BAR - 2, colours[count]);
	if (chart->results->rounds == 1)
		return;
	line_at(chart, least, middle, most, middle, WHISKER);
	line_at(chart, least, middle - 3, least, middle + 3, WHISKER);
	line_at(chart, most, middle - 3, most, middle + 3, WHISKER);
}

/* Beside the bar where there is room, else in it. */
static void draw_label(const struct chart *chart, int panel, double y, struct spread s)
{
	double most = x_of(chart, panel, s.max);
	char text[16];

	snprintf(text, sizeof(text), "%.2f", s.median);
	if (most < x_of(chart, panel, chart->most) - 30)
		text_at(chart, most + 5, y + BAR / 2.0 + 4,
			"font-size=\"11\" fill=\"#222\" stroke=\"#fff\" stroke-width=\"3\" paint-order=\"stroke\"",
			text);
	else
		text_at(chart, x_of(chart, panel, 0) + 5, y + BAR / 2.0 + 4, "font-size=\"11\" fill=\"#fff\"", text);
}

static void draw_groups(const struct chart *chart, int panel, enum bench_row row, bool labels)
{
	double y = TOP + GROUP_GAP / 2.0;

	for (unsigned int p = 0; p < NR_PHASES; p++) {
		double end = y + chart->results->nr_counts * BAR, goal = x_of(chart, panel, bench_goals[p]);

		if (!results_has_phase(chart->results, p))
			continue;
		if (!labels && !panel)
			text_at(chart, LEFT - 8, (y + end) / 2 + 4, "text-anchor=\"end\"", workload_phase_names[p]);
		if (labels && chart->has_goals)
			line_at(chart, goal, y - 4, goal, end + 4, GOAL);
		for (unsigned int count = 0; count < chart->results->nr_counts; count++) {
			struct spread s = results_ratio(chart->results, count, row, p);

			if (labels)
				draw_label(chart, panel, y + count * BAR, s);
			else
				draw_bar(chart, panel, count, y + count * BAR, s);
		}
		y += group_height(chart);
	}
}

static void draw_panel(const struct chart *chart, int panel, enum bench_row row)
{
	double one = x_of(chart, panel, 1);
	char text[96];

	snprintf(text, sizeof(text), "%s%s", bench_row_names[row],
		 row == ROW_MEMORY ? ": as much in all as the kernel used" : ": the cgroup's limit");
	text_at(chart, x_of(chart, panel, 0), TOP - 12, "font-size=\"14\" font-weight=\"bold\"", text);
	draw_grid(chart, panel);
	draw_groups(chart, panel, row, false);
	line_at(chart, one, TOP - 4, one, TOP + chart->height, "stroke=\"#000\" stroke-width=\"1.2\"");
	draw_groups(chart, panel, row, true);
}

static void draw_legend(const struct chart *chart)
{
	double x = LEFT, y = TOP - 44;
	char text[48];

	for (unsigned int count = 0; count < chart->results->nr_counts; count++) {
		u64 threads = chart->results->threads[count];

		fprintf(chart->out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"12\" height=\"12\" fill=\"%s\"/>\n", x, y - 10,
			colours[count]);
		snprintf(text, sizeof(text), "%llu thread%s", (unsigned long long)threads, threads == 1 ? "" : "s");
		text_at(chart, x + 18, y, "", text);
		x += 100;
	}
	if (chart->has_goals) {
		line_at(chart, x + 4, y - 12, x + 4, y + 3, GOAL);
		text_at(chart, x + 14, y, "", "goal");
		x += 60;
	}
	if (chart->results->rounds > 1) {
		line_at(chart, x, y - 4, x + 22, y - 4, WHISKER);
		line_at(chart, x, y - 7, x, y - 1, WHISKER);
		line_at(chart, x + 22, y - 7, x + 22, y - 1, WHISKER);
		text_at(chart, x + 32, y, "", "least to most of the rounds");
	}
}

void results_print_chart(const struct bench_results *results, FILE *out)
{
	struct chart chart = { .results = results, .out = out };
	unsigned int nr_phases = (unsigned int)__builtin_popcount(results->phases);
	int height;
	char text[160], size[24];

	scale_axis(&chart);
	chart.height = (int)(nr_phases * group_height(&chart));
	height = TOP + chart.height + BELOW;
	fprintf(out,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" "
		"font-family=\"sans-serif\" font-size=\"13\">\n"
		"<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n",
		WIDTH, height, WIDTH, height, WIDTH, height);
	text_at(&chart, LEFT, 28, "font-size=\"18\" font-weight=\"bold\"", "Time per access: the kernel's zram / weir");
	snprintf(text, sizeof(text),
		 "Above 1 weir is faster. Working set %s, a quarter of it resident, %s; %llu round%s.",
		 print_size(size, sizeof(size), results->size), results->algo, (unsigned long long)results->rounds,
		 results->rounds == 1 ? "" : "s");
	text_at(&chart, LEFT, 50, "fill=\"#444\"", text);
	draw_legend(&chart);
	draw_panel(&chart, 0, ROW_MEMORY);
	draw_panel(&chart, 1, ROW_RESIDENT);
	text_at(&chart, WIDTH / 2.0, height - 16, "text-anchor=\"middle\" fill=\"#444\"",
		"ratio of times per access, median of the rounds");
	fputs("</svg>\n", out);
}
